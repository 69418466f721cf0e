"""Figures of results: functions from arrays to a matplotlib Figure."""
