#!/usr/bin/env bash
# A listing of a folder leaves out files that were there all the time, or shows one twice, if files are renamed meanwhile.
#
# Guess: a rename is atomic: a file has the old name or the new one at each moment. So a program that lists a folder once, as by
#     os.scandir, os.listdir or glob, sees each file under one of its names; a file that is not listed was deleted.
# Behaviour: the listing of a large folder is read piece by piece, in an order of the file system. A file that is renamed between
#     two pieces is listed under both names if its new place is further on, and under neither if its new place was passed. ext4,
#     whose order is a hash of the name, does both; tmpfs, whose order is that of creation, shows files twice. So a program takes
#     photos for deleted, or for new ones, while a photo editor renames a series. Nothing reports it; a second listing is right.
# Versions: Linux 6.18 with ext4 and tmpfs. The script needs no package.
# Date: 2026-11-29.
# Source: POSIX.1-2024, readdir(): whether a file that is added or removed after the folder was opened is returned is
#     "unspecified"; Linux, fs/ext4/dir.c and fs/libfs.c (offset_readdir).
# Covered by: flows/steps/following/manifest_cleaning.py, which removes a row only if a later run, after the grace period, finds no
#     file either; tests/flows/steps/test_manifest_cleaning.py, "a row goes only if its file was missing in an earlier run".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$work" <<'PYTHON'
import os
import sys
from collections import Counter

COUNT = 20_000
folder = sys.argv[1]
for number in range(COUNT):
    with open(f"{folder}/IMG_{number:05}.JPG", "wb"):
        pass


def numbers(names):
    return Counter(name[-9:-4] for name in names)


with os.scandir(folder) as entries:
    # The first entry is there when the first piece of the listing has been read.
    listed = [next(entries).name]
    for number in range(COUNT):
        os.rename(f"{folder}/IMG_{number:05}.JPG", f"{folder}/2026-11-29_{number:05}.JPG")
    listed += [entry.name for entry in entries]
found = numbers(listed)
missing, twice = COUNT - len(found), sum(times > 1 for times in found.values())
print(f"of {COUNT} files that were there all the time, {missing} are not listed, and {twice} are listed under both names")
assert missing + twice > 0
again = numbers(os.listdir(folder))
print("a second listing, without renames:", len(again), "files")
assert len(again) == COUNT and set(again.values()) == {1}
PYTHON
