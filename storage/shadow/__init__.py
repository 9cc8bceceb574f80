"""The rows of a plan: copies in another database, and their changes."""
