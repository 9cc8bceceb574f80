#!/usr/bin/env bash
# A process that reads SQLite's file `-shm`, for example to copy it, gives up the write lock of its own transaction.
#
# Guess: reading a file changes nothing, least of all for a transaction of another connection, which has a descriptor of its
#     own; and copying the database file itself would be the risk, if any.
# Behaviour: POSIX drops all locks of a process on a file when the process closes any descriptor of that file. In WAL mode
#     the write lock is a lock on `-shm`: after a copy of the folder, another process begins a write
#     transaction while the first one is still in its own. To read and close the `-wal` file is harmless. Without
#     WAL it is the database file itself that must not be opened and closed.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1), Linux and other POSIX systems.
# Date: 2026-11-28.
# Source: close(2) and fcntl_locking(2); sqlite.org/howtocorrupt.html, section 2.2; src/os_unix.c, on POSIX advisory locking.
# Covered by: storage/database/engine.py, `Database.sync`, which opens the `-wal` file only;
#     tests/storage/database/test_durable_commits.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
cd "$folder"
cat > other.py <<'PYTHON'
import sys

import apsw

connection = apsw.Connection(sys.argv[1])
try:
    connection.execute("BEGIN IMMEDIATE")
    print("may write", end="")
    connection.execute("ROLLBACK")
except apsw.BusyError:
    print("has to wait", end="")
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import apsw


def other_process(database):
    return subprocess.run([sys.executable, "other.py", database], check=True, capture_output=True, text=True).stdout


def seen(mode, suffix):
    """What another process finds during a transaction of this one, before and after a file was read."""
    database = f"{mode}{suffix}.db"
    connection = apsw.Connection(database)
    connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.execute("BEGIN IMMEDIATE")
    before = other_process(database)
    Path(database + suffix).read_bytes()
    after = other_process(database)
    connection.execute("ROLLBACK")
    connection.close()
    print(f"{mode}: another process {before}; after this one has read *.db{suffix}, it {after}")
    return before, after


KEPT, LOST = ("has to wait", "has to wait"), ("has to wait", "may write")
assert seen("wal", "-wal") == KEPT
assert seen("wal", "") == KEPT
assert seen("wal", "-shm") == LOST
assert seen("delete", "") == LOST
PYTHON
