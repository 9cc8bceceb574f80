#!/usr/bin/env bash
# SQLite sorts the whole queue to find its head as soon as there is an index on the status, also after ANALYZE.
#
# Guess: a partial index with the very condition and the very order of a query wins against each other index: its first entry
#     is the answer. A further index, for other queries, can only make something quicker.
# Behaviour: the condition that a partial index implies counts for nothing in the estimate, so reading it looks like reading
#     a whole table. A search of `status = 'queued'` in an index on the status looks narrower. It reads every
#     waiting row from the table and sorts them, for one row: 60,000 steps of SQLite's machine for 17.
#     INDEXED BY brings the partial index back.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1). SQLite 3.40 does the same without ANALYZE.
# Date: 2026-11-28.
# Source: src/where.c, whereLoopAddBtree and whereLoopAddBtreeIndex; sqlite.org/partialindex.html.
# Covered by: storage/lifecycle/job_statement.py, `by_index`; tests/storage/queue/test_stale_statistics.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import apsw

WAITING = "status = 'queued' AND run_after IS NULL"
HEAD = f"SELECT id FROM jobs WHERE {WAITING} ORDER BY priority, created_at, id LIMIT 1"
connection = apsw.Connection(":memory:")
for statement in (
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT, run_after TEXT, priority INTEGER, created_at INTEGER)",
    f"CREATE INDEX jobs_head ON jobs (priority, created_at, id) WHERE {WAITING}",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
    "INSERT INTO jobs SELECT i, CASE WHEN i % 10 THEN 'completed' ELSE 'queued' END, NULL, i % 3, i FROM n",
):
    connection.execute(statement)


def look(when, query):
    steps = 0

    def count():
        nonlocal steps
        steps += 1
        return False

    connection.set_progress_handler(count, 1)
    found = connection.execute(query).fetchall()
    connection.set_progress_handler(None)
    plan = ", ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    print(f"{when}: {steps} steps: {plan}")
    assert found == [(30,)]
    return steps


alone = look("the partial index alone", HEAD)
connection.execute("CREATE INDEX jobs_status ON jobs (status)")
beside = look("with an index on the status", HEAD)
connection.execute("ANALYZE")
analyzed = look("after ANALYZE", HEAD)
named = look("with INDEXED BY", HEAD.replace("FROM jobs", "FROM jobs INDEXED BY jobs_head"))
assert max(alone, named) < 100 and min(beside, analyzed) > 20_000
PYTHON
