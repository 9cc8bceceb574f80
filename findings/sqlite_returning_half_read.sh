#!/usr/bin/env bash
# With Python's sqlite3 in autocommit, a write with RETURNING is not committed until its last row is fetched, and looks as if it were.
#
# Guess: without BEGIN, each statement is a transaction of its own: when `execute` has returned, or at the latest when a row has
#     been fetched, all rows are written for all to see. So claimed jobs can be taken from the cursor one by one.
# Behaviour: SQLite ends the transaction when the statement ends, and that is when it has no more rows to give. While the first
#     of two claimed jobs runs, another connection sees both as queued and cannot write ("database is locked"), while
#     `in_transaction` is False, so that `commit()` does nothing. If the process dies then, the claim is undone, although
#     a job of it has begun. The last row, or the end of the cursor's life, commits it. With one claimed job all is well.
# Versions: Python 3.11.7 with SQLite 3.40 and later.
# Date: 2026-11-28.
# Source: sqlite.org/lang_transaction.html, "Implicit versus explicit transactions": "committed automatically when the last SQL
#     statement finishes"; Modules/_sqlite/cursor.c, which steps to the next row when it gives one.
# Covered by: storage/database/engine.py, `Database.run`, which fetches all rows before it returns them.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > claim.py <<'PYTHON'
import os
import sqlite3

connection = sqlite3.connect("queue.db", isolation_level=None)
cursor = connection.execute("UPDATE jobs SET status = 'running' RETURNING id")
print("begins the first of its jobs:", cursor.fetchone(), flush=True)
os._exit(0)  # As in a power cut, nothing is tidied up.
PYTHON
python3 - <<'PYTHON'
import sqlite3
import subprocess
import sys


def other_sees():
    """What another connection reads, and whether it may write."""
    other = sqlite3.connect("queue.db", isolation_level=None, timeout=0)
    status = other.execute("SELECT status FROM jobs WHERE id = 1").fetchone()[0]
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        may_write = True
    except sqlite3.OperationalError:
        may_write = False
    other.close()
    print(f"    another connection reads {status!r} and {'may' if may_write else 'may not'} write")
    return status, may_write


connection = sqlite3.connect("queue.db", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL").fetchall()
connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT)")
connection.execute("INSERT INTO jobs VALUES (1, 'queued'), (2, 'queued')")
print("Python", sys.version.split()[0], "SQLite", sqlite3.sqlite_version)
cursor = connection.execute("UPDATE jobs SET status = 'running' RETURNING id")
print("the first of two claimed rows is fetched:", cursor.fetchone(), "in_transaction:", connection.in_transaction)
assert not connection.in_transaction
assert other_sees() == ("queued", False)
connection.commit()
print("after commit():")
assert other_sees() == ("queued", False)
print("after fetchall():", cursor.fetchall())
assert other_sees() == ("running", True)

connection.execute("UPDATE jobs SET status = 'queued'")
connection.close()
subprocess.run([sys.executable, "claim.py"], check=True)
print("a process that had begun a claimed job has died:")
assert other_sees() == ("queued", True)
PYTHON
