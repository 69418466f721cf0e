"""What python -m tools.doctor looks for in a data set."""
