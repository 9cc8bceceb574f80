"""Alembic's entry point: runs the migrations on the caller's connection, inside its transaction."""

from alembic import context

from storage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
