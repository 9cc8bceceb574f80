#!/usr/bin/env bash
# Python's `sqlite3.Connection.backup` waits for a locked file without end, whatever `timeout` is set, and Ctrl-C does not stop it.
#
# Guess: the `timeout` of `sqlite3.connect` holds for each call that finds a database locked, so that a backup from a file, or into a file,
#     that another program keeps locked fails after that time with "database is locked", as a SELECT does.
# Behaviour: SQLite's own function for the next step returns "busy" once the timeout is over, and Python calls it again, every quarter of a
#     second, for as long as the lock is there: the call below returns when the other connection gives its lock back, after 2 seconds,
#     and with success, and would wait for days as well. The loop is in C and looks for no signals: SIGINT in the meantime is seen after
#     the call. A function in `progress` is called after each step with the code 5 (busy), and the error that it raises ends the
#     backup; with such a function Ctrl-C works, too.
# Versions: Python 3.11 to 3.13 with SQLite 3.40 and later. The script needs no package.
# Date: 2026-11-29.
# Source: Modules/_sqlite/connection.c, pysqlite_connection_backup_impl: `while (rc == SQLITE_OK || rc == SQLITE_BUSY || …)`.
# Covered by: storage/upkeep/backup.py, `_copy_pages`; tests/storage/upkeep/test_backup.py, "a file that another program keeps locked is
#     reported".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 - <<'PYTHON'
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing

LOCKED_SECONDS = 2

with closing(sqlite3.connect("photos.db")) as made:
    made.execute("CREATE TABLE photos (name)")


def within(call):
    """Call a function while another connection keeps the file locked, and say what came of it."""
    other = sqlite3.connect("photos.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    ending = threading.Timer(LOCKED_SECONDS, other.rollback)
    ending.start()
    began = time.monotonic()
    try:
        call()
        result = "success"
    except (sqlite3.Error, KeyboardInterrupt) as error:
        result = type(error).__name__
    took = time.monotonic() - began
    ending.join()
    other.close()
    return result, took


def is_raised(status, remaining, total):
    if status == sqlite3.SQLITE_BUSY:
        raise sqlite3.OperationalError("locked")


with closing(sqlite3.connect("photos.db", timeout=0.2)) as source, closing(sqlite3.connect("copy.db")) as copy:
    seen = {
        "SELECT": within(lambda: source.execute("SELECT * FROM photos")),
        "backup": within(lambda: source.backup(copy)),
        "backup with a check of the status": within(lambda: source.backup(copy, progress=is_raised)),
    }
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    seen["backup with SIGINT after 0.3 seconds"] = within(lambda: source.backup(copy))
for what, (result, took) in seen.items():
    print(f"{what}: {result} after {took:.1f} seconds")
assert seen["SELECT"][0] == seen["backup with a check of the status"][0] == "OperationalError"
assert seen["SELECT"][1] < 1 and seen["backup with a check of the status"][1] < 1
assert seen["backup"][0] == "success" and seen["backup"][1] >= LOCKED_SECONDS - 0.1
assert seen["backup with SIGINT after 0.3 seconds"] == ("KeyboardInterrupt", seen["backup with SIGINT after 0.3 seconds"][1])
assert seen["backup with SIGINT after 0.3 seconds"][1] >= LOCKED_SECONDS - 0.1
PYTHON
