"""What people read of experiments: a table as Markdown, LaTeX, CSV and one HTML page, and the figures of a run."""
