#!/usr/bin/env bash
# `sqlite:///photos.db?mode=ro&uri=true` opens another file for writing: SQLAlchemy creates one with the name `photos.db?mode=ro`.
#
# Guess: SQLAlchemy passes SQLite's own options if the URL also has `uri=true`; its warning about `?mode=ro` alone says so. So
#     a program that is to look at a database, and no more, gets this URL, fails if the file is missing, and cannot write.
# Behaviour: SQLite takes the text for a URI only if it begins with `file:`, which nothing adds. Without it the options are a part of
#     the name. The missing file is created, empty and writable, and no warning comes; "no such table" points elsewhere. Reports count no
#     rows, and a program that creates its tables goes on with an empty database beside the full one. An absolute path does
#     the same. `sqlite:///file:photos.db?mode=ro&uri=true` is read-only.
# Versions: SQLAlchemy 2.1.9; SQLite 3.40 and later.
# Date: 2026-11-29.
# Source: sqlalchemy/dialects/sqlite/pysqlite.py, create_connect_args, which joins the name and the options; sqlite.org/uri.html.
# Covered by: storage/database/engine.py, `_create_engine`, which refuses options of SQLite files;
#     tests/storage/database/test_database_failures.py, "a URL of no supported database is told", which looks for new files.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q SQLAlchemy==2.1.9
mkdir "$folder/data"
cd "$folder/data"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import warnings

from sqlalchemy import create_engine, text

TABLES = text("SELECT count(*) FROM sqlite_schema")
with create_engine("sqlite:///photos.db").begin() as connection:
    connection.execute(text("CREATE TABLE photos (id INTEGER PRIMARY KEY)"))


def seen(url):
    """The number of tables, whether the file can be changed, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with create_engine(url).connect() as connection:
            tables = connection.execute(TABLES).scalar()
            try:
                connection.execute(text("PRAGMA user_version = 7"))
                may_write = True
            except Exception as error:
                assert "readonly" in str(error)
                may_write = False
    result = tables, may_write, len(caught)
    print(f"{url}: {tables} tables, {'may' if may_write else 'may not'} write, {len(caught)} warnings; the files: {sorted(os.listdir())}")
    return result


# In SQLAlchemy 2.1 this warns that the option is ignored, and that it requires `uri=true`.
assert seen("sqlite:///photos.db?mode=ro") == (1, True, 1)
assert os.listdir() == ["photos.db"]
assert seen("sqlite:///photos.db?mode=ro&uri=true") == (0, True, 0)
assert sorted(os.listdir()) == ["photos.db", "photos.db?mode=ro"]
os.unlink("photos.db?mode=ro")
assert seen(f"sqlite:///{os.getcwd()}/photos.db?mode=ro&uri=true") == (0, True, 0)
assert sorted(os.listdir()) == ["photos.db", "photos.db?mode=ro"]
assert seen("sqlite:///file:photos.db?mode=ro&uri=true") == (1, False, 0)
PYTHON
