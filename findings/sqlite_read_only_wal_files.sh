#!/usr/bin/env bash
# A read-only connection to an SQLite file in WAL mode creates two files beside it, and leaves them there.
#
# Guess: `mode=ro` is the way to look at a database without a trace: nothing is created and nothing is changed.
# Behaviour: the connection creates `-wal` and `-shm`, and does not remove them when it is closed. One that may write, with
#     `PRAGMA query_only = ON`, removes them when it is the last to close, and changes no byte of the file.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1).
# Date: 2026-11-28.
# Source: sqlite.org/wal.html, "Read-Only Databases"; sqlite.org/walformat.html, section 1.
# Covered by: storage/upkeep/sqlite_schema.py, `open_read_only`; tests/deployments/cli/test_reading_commands.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
mkdir "$folder/data"
cd "$folder/data"
"$folder/venv/bin/python" - <<'PYTHON'
import os

import apsw

made = apsw.Connection("photos.db")
made.execute("PRAGMA journal_mode = WAL").fetchall()
made.execute("CREATE TABLE photos (id INTEGER)")
made.close()
assert os.listdir() == ["photos.db"]
before = open("photos.db", "rb").read()


def look(flags: int) -> list[str]:
    connection = apsw.Connection("photos.db", flags=flags)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("SELECT count(*) FROM photos").fetchall()
    connection.close()
    assert open("photos.db", "rb").read() == before
    return sorted(os.listdir())


left = look(apsw.SQLITE_OPEN_READWRITE)
print("may write, query_only:", left)
assert left == ["photos.db"]
left = look(apsw.SQLITE_OPEN_READONLY)
print("read-only:", left)
assert left == ["photos.db", "photos.db-shm", "photos.db-wal"]
PYTHON
