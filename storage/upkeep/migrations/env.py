"""Alembic's entry: runs on the connection, and inside the transaction, that the caller hands over."""

from alembic import context

from storage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
