"""Experiments: what a table file asks for, the runs that it needs, how they are launched, and what came out of them."""
