#!/usr/bin/env bash
# A deferred SQLite transaction that has read fails at its first write, at once, although a busy timeout of 30 s is set.
#
# Guess: `busy_timeout` makes each statement that finds the database locked wait, so that in WAL mode a short write waits
#     for its turn, or is tried again when the other writer has committed.
# Behaviour: once another connection has committed after the read, the write fails immediately with
#     SQLITE_BUSY_SNAPSHOT: the transaction's snapshot is out of date, and no waiting can help. Begun by BEGIN
#     IMMEDIATE, the same transaction cannot fail: the other writer waits. Prefect 3.9.1 begins most transactions of its
#     API deferred, and answers 503 in this case.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1).
# Date: 2026-11-28.
# Source: sqlite.org/rescode.html#busy_snapshot; prefect/server/database/configurations.py, `begin_transaction`.
# Covered by: deployments/embedded_server/serial_writers.py; tests/deployments/embedded_server/test_serial_writers.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import time

import apsw

first, second = apsw.Connection("runs.db"), apsw.Connection("runs.db")
first.execute("PRAGMA journal_mode = WAL").fetchall()
first.execute("CREATE TABLE runs (id INTEGER)")
for connection in (first, second):
    connection.set_busy_timeout(30_000)

first.execute("BEGIN DEFERRED")
first.execute("SELECT count(*) FROM runs").fetchall()
second.execute("INSERT INTO runs VALUES (1)")
began = time.monotonic()
try:
    first.execute("INSERT INTO runs VALUES (2)")
    refusal = None
except apsw.BusyError as error:
    refusal = error
waited = time.monotonic() - began
print(f"deferred: refused after {waited:.3f} s with extended code {getattr(refusal, 'extendedresult', None)}")
assert refusal is not None and refusal.extendedresult == apsw.SQLITE_BUSY_SNAPSHOT and waited < 5
first.execute("ROLLBACK")

second.set_busy_timeout(0)
first.execute("BEGIN IMMEDIATE")
first.execute("SELECT count(*) FROM runs").fetchall()
try:
    second.execute("INSERT INTO runs VALUES (3)")
    raise SystemExit("the other connection wrote into an immediate transaction")
except apsw.BusyError:
    print("immediate: the other connection has to wait")
first.execute("INSERT INTO runs VALUES (2)")
first.execute("COMMIT")
assert first.execute("SELECT id FROM runs ORDER BY id").fetchall() == [(1,), (2,)]
PYTHON
