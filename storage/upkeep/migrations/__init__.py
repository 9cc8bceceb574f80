"""The migrations of the schema for both databases, run by Alembic. `versions` has a file for each revision."""
