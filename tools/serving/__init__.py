"""The page and the API of `python -m tools.serve`."""
