#!/usr/bin/env bash
# SQLite's ANALYZE helps connections that are already open the first time only; later ones they never notice.
#
# Guess: the statistics are in a table of the file, so after ANALYZE in one connection, all of them plan by the new numbers, at the
#     latest with statements that they compile afterwards. At least it is the same each time: it worked when it was tried.
# Behaviour: a connection reads the statistics together with the schema, and then no more. The first ANALYZE creates its table,
#     which is a change of the schema, so that others read both again. The next one only changes rows: other connections keep the
#     old numbers until they are closed, or until something else changes the schema. A worker with a pool plans by the numbers of
#     its first minute for as long as it runs, also statements that are new, while a shell on the same file shows the good plan.
#     `ANALYZE sqlite_schema` in the worker itself, which analyzes no table, has it read the numbers again.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1). SQLite 3.40 does the same.
# Date: 2026-11-29.
# Source: src/analyze.c, openStatTable, which creates the table, and analyzeDatabase, which loads the numbers for its own
#     connection; src/prepare.c, sqlite3InitOne, which loads them with the schema.
# Covered by: storage/lifecycle/job_statement.py, `by_index`, which leaves nothing to statistics;
#     tests/storage/queue/test_stale_statistics.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
"$folder/venv/bin/python" - "$folder/jobs.db" <<'PYTHON'
import sys

import apsw

path = sys.argv[1]
QUERY = "SELECT * FROM jobs WHERE status = 'status 0' AND tenant = 'tenant 0'"


def index_of(connection, title):
    """The index by which a connection runs the query, which it compiles now."""
    connection.execute(f"{QUERY} AND {index_of.calls} >= 0").fetchall()
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {QUERY} AND {index_of.calls} >= 0")]
    index_of.calls += 1
    found = plan[0].split("INDEX ")[1].split(" ")[0]
    print(f"{title}: reads by {found}")
    return found


def fill(statuses, tenants):
    with analyst:
        analyst.execute("DELETE FROM jobs")
        rows = [(f"status {number % statuses}", f"tenant {number % tenants}") for number in range(2000)]
        analyst.executemany("INSERT INTO jobs (status, tenant) VALUES (?, ?)", rows)
    analyst.execute("ANALYZE")


index_of.calls = 1
analyst = apsw.Connection(path)
analyst.execute("PRAGMA journal_mode = WAL")
analyst.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT, tenant TEXT)")
analyst.execute("CREATE INDEX by_status ON jobs (status)")
analyst.execute("CREATE INDEX by_tenant ON jobs (tenant)")
worker = apsw.Connection(path)
before = index_of(worker, "the worker, before any ANALYZE")
few_of_worse = (1, 1000) if before == "by_status" else (1000, 1)
fill(*few_of_worse)
first = index_of(worker, "the worker, after the first ANALYZE")
assert first != before
fill(*reversed(few_of_worse))
assert index_of(analyst, "the analyst, after the second") == before
assert index_of(apsw.Connection(path), "a new connection, after the second") == before
assert index_of(worker, "the worker, after the second") == first
worker.execute("ANALYZE sqlite_schema")
assert index_of(worker, "the worker, after its own ANALYZE sqlite_schema") == before
PYTHON
