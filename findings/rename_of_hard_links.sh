#!/usr/bin/env bash
# A rename onto another hard link of the same file succeeds, does nothing, and leaves both names.
#
# Guess: when `os.rename`, `os.replace`, `Path.rename` or `shutil.move` return, the old name is gone: a move is over, and
#     to repeat one that was interrupted is safe.
# Behaviour: POSIX demands that a rename does nothing, and reports success, if both names lead to one file. All four
#     of Python return as if they had moved the file. A move by `os.link` and `os.unlink` that died between
#     the two can therefore never be finished by a rename. `renameat2` with RENAME_NOREPLACE says that the name exists.
# Versions: Python 3.11 and later, Linux 3.15 and later with glibc 2.28 or later.
# Date: 2026-11-28.
# Source: POSIX.1-2024, rename(): "shall return successfully and perform no other action"; rename(2), "BUGS" and NOTES.
# Covered by: storage/library/exclusive_rename.py, `finish_interrupted`; tests/storage/library/test_exclusive_rename_errors.py,
#     "the second name of a file is finished …".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 - <<'PYTHON'
import ctypes
import errno
import os
import shutil
from pathlib import Path


def renameat2(source, target):
    at_working_folder, no_replace = -100, 1
    function = ctypes.CDLL(None, use_errno=True).renameat2
    if function(at_working_folder, source.encode(), at_working_folder, target.encode(), no_replace):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


WAYS = {
    "os.rename": os.rename,
    "os.replace": os.replace,
    "Path.rename": lambda source, target: Path(source).rename(target),
    "shutil.move": shutil.move,
    "renameat2 with RENAME_NOREPLACE": renameat2,
}
Path("fox.jpg").write_bytes(b"fox")
os.link("fox.jpg", "hen.jpg")
for name, way in WAYS.items():
    try:
        way("fox.jpg", "hen.jpg")
        outcome = None
    except OSError as error:
        outcome = error.errno
    left = sorted(os.listdir())
    print(f"{name}: {'no error' if outcome is None else errno.errorcode[outcome]}; the names afterwards: {left}")
    assert left == ["fox.jpg", "hen.jpg"]
    # A file system that does not know the flag says EINVAL.
    assert outcome in ((errno.EEXIST, errno.EINVAL) if way is renameat2 else (None,))
PYTHON
