#!/usr/bin/env bash
# A file system may report that 0 of 0 bytes are free, and take each file: a check of the free space before a copy refuses all of them.
#
# Guess: `shutil.disk_usage(folder).free` is what can be written there, perhaps a little less. If it is 0, the disk is full.
# Behaviour: a tmpfs without a limit (`size=0`) reports no blocks, neither free nor at all, and so does each FUSE program that does not
#     answer statfs: the reply of libfuse is zeros then. Files can be written to all of them. Only the total tells such a file system
#     from a full one: it is 0, too. A percentage of the free space is a division by zero; `df` shows a dash, and leaves such
#     file systems out of its list.
# Versions: Linux 6.18, Python 3.11 and later, GNU coreutils 9. The script needs no package, but the right to mount in a namespace.
# Date: 2026-11-29.
# Source: Linux, mm/shmem.c, shmem_statfs; libfuse, lib/fuse_lowlevel.c, do_statfs; coreutils, src/df.c.
# Covered by: storage/library/transfer.py, `_move_across`; deployments/doctor/surroundings.py;
#     tests/storage/library/test_library_transfer_limits.py, "a disk that does not report its size is not full".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/unlimited" "$folder/limited"
cat > "$folder/look.py" <<'PYTHON'
import os
import shutil
import subprocess
from pathlib import Path

usages = {}
for name in ("unlimited", "limited"):
    written = Path(name, "fox.jpg").write_bytes(b"x" * 100_000)
    usages[name] = shutil.disk_usage(name)
    print(f"{name}: {usages[name].free:,} of {usages[name].total:,} bytes are free after {written:,} were written")
assert usages["unlimited"] == (0, 0, 0) and usages["limited"].free > 0

listed = subprocess.run(["df", "--output=target"], capture_output=True, text=True).stdout.split()
shown = subprocess.run(["df", "--output=pcent", "unlimited"], capture_output=True, text=True, check=True).stdout.split()
here = os.getcwd()
print("df:", shown[-1], "in the list of all:", [name for name in usages if f"{here}/{name}" in listed])
assert shown[-1] == "-" and f"{here}/unlimited" not in listed and f"{here}/limited" in listed
PYTHON
cd "$folder"
unshare --user --map-root-user --mount bash -c '
    mount -t tmpfs -o size=0 none unlimited
    mount -t tmpfs -o size=1m none limited
    python3 look.py'
