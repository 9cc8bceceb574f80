#!/usr/bin/env bash
# Alembic's batch mode, which changes one column of an SQLite table, drops the table's triggers, AUTOINCREMENT and collations.
#
# Guess: `batch_alter_table` makes the table anew because SQLite cannot change a column, and puts all else back; what it cannot read
#     from the schema, such as an unnamed CHECK, it reports as a warning.
# Behaviour: it makes what SQLAlchemy's reflection reports, and drops the old table with the rest. Triggers are gone. The key has no
#     AUTOINCREMENT, so an id of a deleted row is given out again, and links of other programs to it lead to another row. A column
#     that ignored case compares it; its unique index takes both spellings. An index with a collation or DESC is there under
#     its name, without either, so that the queries for which it was made sort. No warning names any of these.
# Versions: alembic 1.20.1, SQLAlchemy 2.1.9; SQLite 3.40 and later.
# Date: 2026-11-29.
# Source: alembic/operations/batch.py, ApplyBatchImpl; sqlalchemy/dialects/sqlite/base.py, get_columns and get_indexes.
# Covered by: storage/upkeep/table_definition.py, which takes the parts of a table from its own text;
#     tests/storage/upkeep/test_legacy_upgrade.py, "an id that was given out is never given out again" and "what other programs
#     added is kept".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q alembic==1.20.1 SQLAlchemy==2.1.9
"$work/venv/bin/python" - <<'PYTHON'
import warnings

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Text, create_engine
from sqlalchemy.exc import IntegrityError

TABLES = """
CREATE TABLE photos (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, status TEXT);
CREATE UNIQUE INDEX one_name ON photos (name);
CREATE INDEX newest ON photos (status, id DESC);
CREATE TABLE log (what TEXT);
CREATE TRIGGER noted AFTER DELETE ON photos BEGIN INSERT INTO log VALUES (old.name); END;
INSERT INTO photos (name) VALUES ('fox.jpg'), ('owl.jpg');
"""


def seen(connection, run):
    """What the table does: the next id after a deletion, the log of the trigger, a second spelling, and a sort."""
    run("DELETE FROM photos WHERE name = 'owl.jpg'")
    next_id = run("INSERT INTO photos (name) VALUES ('elk.jpg') RETURNING id").scalar()
    logged = run("SELECT count(*) FROM log").scalar()
    try:
        with connection.begin_nested():
            run("INSERT INTO photos (name) VALUES ('FOX.JPG')")
        is_taken = True
    except IntegrityError:
        is_taken = False
    plan = run("EXPLAIN QUERY PLAN SELECT id FROM photos ORDER BY status, id DESC").all()
    sorts = any("TEMP B-TREE" in row.detail for row in plan)
    return {"next id": next_id, "logged": logged, "takes a second spelling": is_taken, "sorts": sorts}


def trial(change):
    with create_engine("sqlite://").connect() as connection:
        run = connection.exec_driver_sql
        for statement in TABLES.strip().split("\n"):
            run(statement)
        change(Operations(MigrationContext.configure(connection)))
        return seen(connection, run)


def widen(operations):
    with operations.batch_alter_table("photos") as batch:
        batch.alter_column("status", server_default="new", existing_type=Text())


before = trial(lambda operations: None)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    after = trial(widen)
print("before:", before)
print("after another default of one column:", after)
print("warnings:", [str(warning.message) for warning in warned])
assert before == {"next id": 3, "logged": 1, "takes a second spelling": False, "sorts": False}
assert after == {"next id": 2, "logged": 0, "takes a second spelling": True, "sorts": True}
assert not warned
PYTHON
