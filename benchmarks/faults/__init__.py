"""Parts of benchmarks.campaign: faults that are done to runs and files, and how each is judged."""
