#!/usr/bin/env bash
# SQLAlchemy's event "commit" comes before the commit: what its handler asks for, others cannot see yet.
#
# Guess: a handler of the engine's event `commit` runs when the transaction has been committed, as the Session's
#     `after_commit` does; so it is the place to tell another process about a row that is now there.
# Behaviour: the handler runs before COMMIT is sent. Another connection does not see the row, and locks of the transaction are
#     held for as long as the handler takes. If the commit fails afterwards, as for a deferred foreign key, the handler has
#     announced a row that never exists. The engine has no event for after the commit.
# Versions: SQLAlchemy 2.1.9 with SQLite.
# Date: 2026-11-28.
# Source: sqlalchemy/engine/base.py, Connection._commit_impl: `dispatch.commit` before `do_commit`.
# Covered by: flows/starting/outbox.py, `ask_after_commit`; tests/flows/starting/test_starting.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q SQLAlchemy==2.1.9
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sqlalchemy as sa

engine = sa.create_engine("sqlite:///tasks.db")
announced = []


@sa.event.listens_for(engine, "connect")
def prepare(connection, _record):
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def visible():
    other = sa.create_engine("sqlite:///tasks.db")
    with other.connect() as connection:
        found = connection.scalar(sa.text("SELECT count(*) FROM tasks"))
    other.dispose()
    return found


with engine.begin() as connection:
    connection.execute(
        sa.text(
            "CREATE TABLE tasks (id INTEGER PRIMARY KEY, "
            "parent INTEGER REFERENCES tasks (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    )

sa.event.listen(engine, "commit", lambda connection: announced.append(visible()))
with engine.begin() as connection:
    connection.execute(sa.text("INSERT INTO tasks VALUES (1, NULL)"))
print(f"rows that another connection sees: {announced[-1]} in the handler, {visible()} afterwards")
assert (announced, visible()) == ([0], 1)
try:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO tasks VALUES (2, 99)"))
    failed = False
except sa.exc.IntegrityError as error:
    failed = True
    print(f"a commit that fails ({error.orig}): announced {len(announced)} times, {visible()} row")
assert failed and (len(announced), visible()) == (2, 1)
PYTHON
