#!/usr/bin/env bash
# SQLAlchemy inserts many rows with the columns of the first one, and drops what later rows have besides, without a word.
#
# Guess: `execute(table.insert(), rows)` writes each value of each dictionary, and a key that it does not write is an error, as
#     it is with `insert().values(row)` ("Unconsumed column names") and for a key that a later row lacks.
# Behaviour: the first dictionary decides which columns the statement has. A later row that lacks one of them is an error. A
#     later row that has one more loses that value: the column gets its default or NULL. So the same rows in another order
#     are stored in part, or refused. A key that is no column at all is passed over, too, even in a single row.
# Versions: SQLAlchemy 2.1.9 with SQLite.
# Date: 2026-11-28.
# Source: sqlalchemy/engine/base.py, Connection._execute_clauseelement, which compiles for the keys of the first parameters;
#     sqlalchemy/sql/crud.py, which checks names only for values().
# Covered by: storage/history/move_intents.py, whose rows are made of one dataclass, so that all have the same keys.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q SQLAlchemy==2.1.9
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.exc import SQLAlchemyError

warnings.simplefilter("error")
photos = Table("photos", MetaData(), Column("id", Integer, primary_key=True), Column("name", String), Column("title", String))
PLAIN, TITLED, MISSPELT = {"name": "a.jpg"}, {"name": "b.jpg", "title": "Alps"}, {"name": "c.jpg", "titel": "Alps"}


def stored(*rows, values=False):
    """The titles of the rows after they were inserted together, or the name of the error."""
    engine = create_engine("sqlite://")
    photos.metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            if values:
                connection.execute(photos.insert().values(rows[0]))
            else:
                connection.execute(photos.insert(), list(rows))
            result = list(connection.execute(select(photos.c.title).order_by(photos.c.name)).scalars())
    except SQLAlchemyError as error:
        result = type(error).__name__
    print(f"{[sorted(row) for row in rows]}{' by values()' if values else ''}: {result}")
    return result


assert stored(TITLED) == ["Alps"]
assert stored(PLAIN, TITLED) == [None, None]
assert stored(TITLED, PLAIN) == "StatementError"
assert stored(MISSPELT, values=True) == "CompileError"
assert stored(MISSPELT) == [None]
assert stored(PLAIN, MISSPELT) == [None, None]
PYTHON
