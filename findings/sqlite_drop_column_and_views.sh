#!/usr/bin/env bash
# SQLite cannot drop a column if any view of the file is broken, also a view of quite another table.
#
# Guess: `DROP COLUMN` looks at what depends on the column: an index, a trigger, or a view of this table.
# Behaviour: SQLite reads the whole schema again to find out what would break, and stops at a view that was broken before.
#     RENAME COLUMN and RENAME TO do the same; ADD COLUMN does not. No statement had complained about the view: a table
#     is dropped although a view needs it. `PRAGMA legacy_alter_table = ON`, which lets a table be made anew beside such
#     a view, is no remedy: RENAME TO works, but DROP COLUMN still fails, and its error no longer names the view.
# Versions: APSW 3.54.1.0 (SQLite 3.54.1). SQLite 3.40 does the same.
# Date: 2026-11-28.
# Source: src/alter.c, sqlite3AlterDropColumn and renameTestSchema; sqlite.org/pragma.html#pragma_legacy_alter_table.
# Covered by: storage/upkeep/schema_upgrade.py, `_without_views_and_triggers`; tests/storage/upkeep/test_legacy_upgrade.py,
#     "views and triggers of other programs outlast a downgrade".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import apsw

connection = apsw.Connection(":memory:")
for statement in (
    "CREATE TABLE reports (id INTEGER)",
    "CREATE VIEW report_ids AS SELECT id FROM reports",
    "DROP TABLE reports",
    "CREATE TABLE photos (id INTEGER, old TEXT)",
):
    connection.execute(statement)


def tried(statement):
    try:
        connection.execute(statement)
        outcome = "done"
    except apsw.SQLError as error:
        outcome = str(error)
    print(f"{statement}: {outcome}")
    return outcome


ADD, DROP = "ALTER TABLE photos ADD COLUMN new TEXT", "ALTER TABLE photos DROP COLUMN old"
RENAME = "ALTER TABLE photos RENAME TO pictures"
assert tried(ADD) == "done"
for statement in (DROP, "ALTER TABLE photos RENAME COLUMN old TO older", RENAME):
    assert "view report_ids" in tried(statement)
assert tried("PRAGMA legacy_alter_table = ON") == "done"
legacy = [tried(DROP), tried(RENAME)]
assert legacy == ["SQL logic error", "done"]
PYTHON
