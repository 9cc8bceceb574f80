#!/usr/bin/env bash
# In an overlay, as the root of a container, a folder of the image cannot be renamed, not even beside itself; files and new folders can.
#
# Guess: EXDEV means two file systems, or two mounts. A rename within one folder never fails with it, and the number of the device (st_dev)
#     and that of the mount tell beforehand whether a rename is possible.
# Behaviour: a folder that is in a lower layer cannot be renamed (EXDEV) unless the overlay is mounted with redirect_dir=on, which is not
#     the kernel's default; `mv` copies all of it. A folder that was made in the container can be renamed, and so can each file, which
#     is first copied to the upper layer. A file of the lower layer has another st_dev than the folder in which it is, so that a
#     program that compares the two finds two file systems where a rename works, and one where it does not. The number of the
#     mount is the same.
# Versions: Linux 6.18, Python 3.11 and later. The script needs no package, but the right to mount in a namespace.
# Date: 2026-11-29.
# Source: Linux, Documentation/filesystems/overlayfs.rst, "renaming directories" and "Inode properties".
# Covered by: storage/library/removal.py, `_set_aside`, and exclusive_rename.py, `are_on_one_file_system`;
#     tests/storage/library/test_library_removal.py and test_transfer_errors.py, "… in a lower layer of an overlay …".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/image/alps" "$folder/layers" "$folder/root"
touch "$folder/image/alps/fox.jpg"
cat > "$folder/look.py" <<'PYTHON'
import errno
import os
from pathlib import Path


def outcome(source, target):
    try:
        os.rename(source, target)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "renamed"


def mount_id(path):
    descriptor = os.open(path, os.O_PATH)
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    os.close(descriptor)
    return next(line.split()[1] for line in lines if line.startswith("mnt_id"))


os.chdir("root")
file, below = Path("alps/fox.jpg"), Path("alps")
print("st_dev of a file and of its folder:", file.stat().st_dev, below.stat().st_dev, "mnt_id:", mount_id(file), mount_id(below))
assert file.stat().st_dev != below.stat().st_dev and mount_id(file) == mount_id(below)

os.mkdir("new")
seen = {
    "a folder of the lower layer": outcome("alps", "Alps 2024"),
    "a new folder": outcome("new", "newer"),
    "a file of the lower layer, into another folder": outcome("alps/fox.jpg", "newer/fox.jpg"),
}
for what, result in seen.items():
    print(f"{what}:", result)
assert list(seen.values()) == ["EXDEV", "renamed", "renamed"]
PYTHON
cd "$folder"
unshare --user --map-root-user --mount bash -c '
    mount -t tmpfs none layers
    mkdir layers/upper layers/work
    mount -t overlay overlay -o lowerdir=image,upperdir=layers/upper,workdir=layers/work,userxattr root
    python3 look.py'
