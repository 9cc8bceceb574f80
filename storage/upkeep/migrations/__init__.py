"""The history of the schema, one for both databases, as Alembic runs it: `versions` has a file for each revision."""
