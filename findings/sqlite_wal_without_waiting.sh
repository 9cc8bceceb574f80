#!/usr/bin/env bash
# SQLite does not wait for a writer when it turns a file to WAL, whatever busy timeout is set; for a reader it waits.
#
# Guess: `busy_timeout` is for each statement that finds the database locked, `PRAGMA journal_mode = WAL` among them. So programs
#     that are started at the same time, each of which opens the new file, sets the timeout and turns on WAL, all succeed.
# Behaviour: if another connection has begun to write, the pragma fails at once with "database is locked", while an INSERT with
#     the same timeout waits. If the other one only reads, the pragma waits. So the start of a second program fails for as long
#     as the first one fills its new tables, and does not in a test in which the first one is idle or reads.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1). SQLite 3.40 does the same.
# Date: 2026-11-29.
# Source: src/vdbe.c, OP_JournalMode; src/pager.c, sqlite3PagerSetJournalMode and sqlite3PagerOpenWal.
# Covered by: storage/upkeep/schema_upgrade.py, `_enable_wal`, which works without WAL then, and tries again at the next start.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import threading
import time

import apsw

first = apsw.Connection("new.db")
first.execute("CREATE TABLE t (x)")


def asked(begin, statement):
    """What a second connection gets for a statement, which waits 60 s; the first one ends its transaction after 6 s."""
    first.execute(begin)
    first.execute("SELECT * FROM t").fetchall()
    second = apsw.Connection("new.db")
    second.set_busy_timeout(60_000)
    ending = threading.Timer(6, first.execute, ("COMMIT",))
    ending.start()
    began = time.monotonic()
    try:
        second.execute(statement).fetchall()
        result = "done"
    except apsw.BusyError:
        result = "locked"
    has_waited = time.monotonic() - began > 3
    ending.join()
    mode = second.execute("PRAGMA journal_mode").get
    second.execute("PRAGMA journal_mode = DELETE")
    second.close()
    print(f"first: {begin}; second: {statement}: {result}, {'after waiting' if has_waited else 'at once'}; mode {mode}")
    return result, has_waited


wal = "PRAGMA journal_mode = WAL"
assert asked("BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)") == ("done", True)
assert asked("BEGIN", wal) == ("done", True)
assert asked("BEGIN IMMEDIATE", wal) == ("locked", False)
PYTHON
