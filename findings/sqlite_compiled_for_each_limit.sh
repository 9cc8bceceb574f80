#!/usr/bin/env bash
# SQLite compiles a prepared statement anew at each execution if its LIMIT is a parameter; with `LIMIT +?` it does not.
#
# Guess: a statement is compiled once, when it is prepared; drivers keep it in a cache for that purpose. Only a change of the
#     schema, or, as the documentation of sqlite3_prepare says, a parameter of LIKE or one that STAT4 compares, has it compiled
#     again.
# Behaviour: since 3.47 the planner looks at the value of LIMIT. To do so, it compiles the statement again after each binding, also
#     after one of the same value, and without ANALYZE. Compiling takes longer than a look into an empty queue: the short claim
#     below takes twice as long, one of twenty lines took ten times as long. SQLAlchemy's `limit()` binds, too. A plus sign
#     before the parameter, or a number in the text, prevents it. SQLite 3.46 compiles once.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1), APSW 3.46.1.0 (SQLite 3.46.1).
# Date: 2026-11-29.
# Source: src/expr.c, sqlite3ExprIsInteger, which marks the variable; src/vdbeapi.c, vdbeUnbind, which lets the statement expire;
#     the check-in "Better optimize queries that use parameters in the LIMIT clause" of 2024-06-06.
# Covered by: storage/database/driver_statement.py; tests/storage/database/test_query_plans.py, "SQLite need not compile a claim
#     again for its limit".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 3.46.1.0 3.54.1.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "apsw==$version"
    "$folder/$version/bin/python" - <<'PYTHON'
import time

import apsw

connection = apsw.Connection(":memory:")
connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT, priority INTEGER, created_at TEXT)")
connection.execute("CREATE INDEX ready ON jobs (priority DESC, created_at, id) WHERE status = 'queued'")
CLAIM = """UPDATE jobs SET status = 'running' WHERE id IN (
    SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority DESC, created_at, id LIMIT {}) RETURNING id"""
RUNS = 1000


def measure(limit, bindings):
    """How often a claim that finds nothing is compiled in `RUNS` executions, and the microseconds of one."""
    statement, compiled = CLAIM.format(limit), 0

    def seen(action, *_):
        # SQLite asks the authorizer while it compiles, and never while a statement runs.
        nonlocal compiled
        compiled += action == apsw.SQLITE_UPDATE
        return apsw.SQLITE_OK

    connection.authorizer = seen
    for _ in range(RUNS):
        connection.execute(statement, bindings).fetchall()
    connection.authorizer = None
    began = time.process_time()
    for _ in range(RUNS):
        connection.execute(statement, bindings).fetchall()
    microseconds = (time.process_time() - began) / RUNS * 1e6
    version = apsw.sqlite_lib_version()
    print(f"SQLite {version}, LIMIT {limit}: compiled {compiled} times in {RUNS} runs, {microseconds:.0f} us each")
    return compiled


is_new = apsw.sqlite_lib_version() == "3.54.1"
assert measure("1", ()) == 1
assert measure("+?", (1,)) == 1
assert (measure("?", (1,)) >= RUNS) == is_new
PYTHON
done
