"""Experiments: what a table file says, the runs that it needs, how they are launched, and what came out of them."""
