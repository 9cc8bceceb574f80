"""Alembic's entry point: it runs on the caller's connection, inside the caller's transaction."""

from alembic import context

from storage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
