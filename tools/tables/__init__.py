"""Tables of results: what a table file asks for, the runs that it needs, what came out, and how that is written."""
