"""Embeddings of other code, judged under the protocol of a data set."""
