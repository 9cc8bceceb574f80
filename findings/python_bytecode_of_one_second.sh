#!/usr/bin/env bash
# Python runs the old code of a file that was changed, if the new code has as many bytes and a time in the same second.
#
# Guess: Python takes a file's bytecode from __pycache__ only if the file has not changed since, as make does: it compares the
#     modification time, which has nanoseconds, and also the size. So a changed file never runs as it was before.
# Behaviour: the bytecode has the time in whole seconds. A program that changes a file, runs it, changes it again and runs it, as a
#     test of mutants, a code generator or a reload does, runs the first code twice if both changes are within a second and the
#     size is the same, as with `1` and `2` or `<` and `>`. Where all files get one time, as from archives and images that are
#     built reproducibly, it does so whenever the size is the same, for good. Nothing is reported, and the traceback shows the
#     new text.
# Versions: Python 3.11 to 3.13. The script needs no package.
# Date: 2026-11-29.
# Source: importlib/_bootstrap_external.py, SourceLoader.get_code, `source_mtime = int(st['mtime'])`.
# Covered by: tests/mutation/trials.py, `Trials._write`, which gives each mutant a second of its own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX

run() {
    printf 'VALUE = %s\n' "$1" > job.py
    touch -d "$2" job.py
    result=$(python3 -c 'import job; print(job.VALUE)')
    echo "job.py with VALUE = $1 of $2: $result"
}

run 1 "2026-11-29 12:00:00.1"
[ "$result" = 1 ]
run 2 "2026-11-29 12:00:00.9"
[ "$result" = 1 ]
run 2 "2026-11-29 12:00:01.0"
[ "$result" = 2 ]
run 10 "2026-11-29 12:00:01.0"
[ "$result" = 10 ]
