#!/usr/bin/env bash
# A folder that is mounted a second time has the device number of its disk, so that no check of it notices the mount.
#
# Guess: two paths with the same `st_dev` are on one file system: a rename leads from one to the other, and a removal that stops where
#     the number changes, as of `rm --one-file-system`, does not reach what is mounted in a folder.
# Behaviour: a bind mount, which each volume of a container is, shows the number of the disk. A rename between two volumes of one disk
#     fails with EXDEV, so a program that moves by copying there, and finds out by `st_dev` whether an interrupted move was one,
#     finds the half of a rename. `rm --one-file-system` and `find -xdev` enter the mount: here the first empties the folder
#     that is mounted in the one to be removed, and then fails. `os.path.ismount` says no. The number of the mount tells
#     them apart: `mnt_id` in /proc/self/fdinfo, or statx.
# Versions: Linux 6.18, GNU coreutils 9.1, Python 3.11 and later. The script needs no package, but the right to mount in a namespace.
# Date: 2026-11-29.
# Source: rename(2), EXDEV: "does not work across different mount points, even if the same filesystem is mounted on both"; coreutils,
#     src/remove.c, which compares st_dev; proc_pid_fdinfo(5).
# Covered by: storage/library/mounts.py; tests/storage/library/test_library_removal.py, "a folder of the same disk that is mounted …";
#     tests/storage/library/test_transfer_errors.py, "an interrupted move between two mounts of one disk is finished".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/library" "$folder/library/2024" "$folder/library/2025" "$folder/archive"
touch "$folder/library/2025/fox.jpg" "$folder/archive/hen.jpg"
cat > "$folder/look.py" <<'PYTHON'
import errno
import os
import subprocess
from pathlib import Path

library = Path("library")
mounted = library / "2024"


def mount_id(path):
    descriptor = os.open(path, os.O_PATH)
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    os.close(descriptor)
    return next(line.split()[1] for line in lines if line.startswith("mnt_id"))


def failure(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


is_same_device = mounted.stat().st_dev == library.stat().st_dev
print("same st_dev:", is_same_device, "ismount:", os.path.ismount(mounted), "mnt_id:", mount_id(library), mount_id(mounted))
assert is_same_device and not os.path.ismount(mounted) and mount_id(library) != mount_id(mounted)

refused = failure(os.rename, library / "2025" / "fox.jpg", mounted / "fox.jpg")
print("a rename from one to the other:", refused)
assert refused == "EXDEV"

found = subprocess.run(["find", library, "-xdev", "-name", "hen.jpg"], capture_output=True, text=True, check=True).stdout
print("find -xdev finds:", found.strip())
assert found.strip() == str(mounted / "hen.jpg")

removal = subprocess.run(["rm", "-rf", "--one-file-system", mounted], capture_output=True, text=True)
print("rm --one-file-system:", removal.stderr.strip().rpartition(": ")[2], "- left in the mounted folder:", os.listdir("archive"))
assert removal.returncode == 1 and os.listdir("archive") == []
PYTHON
cd "$folder"
unshare --user --map-root-user --mount bash -c 'mount --bind archive library/2024 && python3 look.py'
