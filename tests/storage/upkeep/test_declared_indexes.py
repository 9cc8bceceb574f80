"""The migrations create the indexes that the tables declare, with the same columns, order and conditions."""

from __future__ import annotations

from sqlalchemy import Connection, text

from storage import Database
from storage.database.tables import metadata


def test_the_migrations_create_the_declared_indexes_with_their_conditions(database: Database) -> None:
    with database.connect() as connection:
        migrated = indexes_of(connection, "public" if database.is_postgresql else "main")
        if database.is_postgresql:
            connection.execute(text("CREATE SCHEMA declared"))
            connection.execute(text("SET LOCAL search_path TO declared"))
        else:
            connection.execute(text("ATTACH ':memory:' AS declared"))
        metadata.create_all(connection.execution_options(schema_translate_map={None: "declared"}))
        declared = indexes_of(connection, "declared")
        connection.rollback()
    assert declared
    assert migrated == declared


def indexes_of(connection: Connection, schema: str) -> dict[str, str]:
    """Return the statements of the indexes of a schema, by name. Alembic's own comparison ignores conditions."""
    if connection.dialect.name == "postgresql":
        statement = f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{schema}'"
    else:
        statement = f"SELECT name, sql FROM {schema}.sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    return {
        name: " ".join(sql.replace(f"{schema}.", "").replace('"', "").split())
        for name, sql in connection.execute(text(statement))
        if name != "alembic_version_pkc"
    }
