"""Ranking and its metrics: pure functions of tensors (or numpy arrays)."""
