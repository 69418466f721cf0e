"""What every other package shares: the nouns, errors, files, logging, seeding. Imports nothing of ours."""
