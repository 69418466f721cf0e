"""Galleries: the vectors of many images in a folder, and the search among them."""
