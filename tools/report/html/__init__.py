"""One self-contained page: a table's outcome, the runs behind it, and their figures."""
