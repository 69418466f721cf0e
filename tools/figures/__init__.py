"""Pictures of results: functions from arrays to a matplotlib Figure. Only material.py opens files, models and devices."""
