#!/usr/bin/env bash
# SQLite keeps the write-ahead log of a database that a symlink names beside the file itself, not beside the symlink.
#
# Guess: the log of `named.db` is `named.db-wal`, so a program that opened `named.db` makes its commits durable by an fsync of
#     `named.db-wal`. If that file does not exist, there is nothing to sync.
# Behaviour: SQLite follows the symlink first, and adds `-wal` to the name of the target. An fsync of `named.db-wal` fails because
#     the file is missing, and a program that ignores this loses its last commits in a power cut. The name of the log therefore
#     comes from the resolved path.
# Versions: SQLite 3.40 and newer.
# Date: 2026-11-29.
# Source: src/os_unix.c, unixFullPathname and appendOnePathElement, which resolve each symlink of the path.
# Covered by: storage/database/engine.py, `sync`; tests/storage/database/test_durable_commits.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "$folder" <<'PYTHON'
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "disk").mkdir()
link = folder / "named.db"
link.symlink_to(folder / "disk" / "file.db")
connection = sqlite3.connect(link)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE commits (id INTEGER)")
logs = sorted(str(path.relative_to(folder)) for path in folder.rglob("*-wal"))
print(f"opened {link.name}, its log is {logs[0]}")
assert logs == ["disk/file.db-wal"], "the log is beside the symlink"
PYTHON
