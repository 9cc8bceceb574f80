#!/usr/bin/env bash
# SQLite says "database or disk is full" of a SELECT, with gigabytes free beside the database: it means the folder of temporary files.
#
# Guess: SQLITE_FULL means that the disk of the database is full, or that the database has reached its largest size. A statement that
#     only reads needs no space, so it cannot fail for that reason.
# Behaviour: a sort, an index that is being built and VACUUM write temporary files once they are larger than the cache of 2 MB. These go to
#     SQLITE_TMPDIR, TMPDIR, /var/tmp or /tmp, and if that folder is full, as a small tmpfs of a container or service is, the error is
#     the same as for the database itself, in words and as a code. So a report fails on a large library alone, and who looks
#     at the disk of the database finds nothing. With `PRAGMA temp_store = MEMORY` all three work, also VACUUM.
# Versions: SQLite 3.40 and later with Python 3.11 and later; Linux 6.18. The script needs no package, but the right to mount in a namespace.
# Date: 2026-11-29.
# Source: src/os_unix.c, unixTempFileDir and unixWrite; src/vdbesort.c; sqlite.org/tempfiles.html.
# Covered by: storage/database/driver_errors.py, whose message names both disks; storage/database/engine.py, which sets temp_store;
#     tests/storage/database/test_database_failures.py, "a full disk is told and leaves nothing half written".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/small"
cat > "$folder/look.py" <<'PYTHON'
import shutil
import sqlite3

database = sqlite3.connect("photos.db", isolation_level=None)
database.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, name TEXT)")
database.execute(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
    "INSERT INTO photos (name) SELECT hex(randomblob(16)) FROM n"
)
free = {name: shutil.disk_usage(name).free for name in (".", "small")}
print(f"free: {free['.']:,} bytes beside the database, {free['small']:,} for temporary files")
assert free["."] > 100_000_000
seen = {}
for store in ("FILE", "MEMORY"):
    database.execute(f"PRAGMA temp_store = {store}")
    for statement in ("SELECT name FROM photos ORDER BY name", "CREATE INDEX by_name ON photos (name)", "VACUUM"):
        try:
            database.execute(statement).fetchall()
            seen[store, statement] = "works"
        except sqlite3.OperationalError as error:
            seen[store, statement] = f"{error.sqlite_errorname}, {error}"
        print(f"{store}: {statement}: {seen[store, statement]}")
assert {result for (store, _), result in seen.items() if store == "FILE"} == {"SQLITE_FULL, database or disk is full"}
assert {result for (store, _), result in seen.items() if store == "MEMORY"} == {"works"}
PYTHON
cd "$folder"
unshare --user --map-root-user --mount bash -c '
    mount -t tmpfs -o size=512k none small
    SQLITE_TMPDIR="$PWD/small" python3 look.py'
