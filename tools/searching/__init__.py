"""What a search of a gallery answers, and how that is said."""
