#!/usr/bin/env bash
# A copy that gets the mode of a file with an access list (a POSIX ACL) gives the file's group rights that it never had.
#
# Guess: `chmod(copy, mode of the original)`, as `shutil.copymode` and `shutil.copy2` do, gives a copy the same rights or, where the disk
#     stores less, fewer: an access list that is lost takes rights away from the users that it names.
# Behaviour: if a file has an access list, the bits of the group in `st_mode` are the list's mask, the most that any named user or
#     group may get. Below, one user may write, the group may do nothing, and the mode is 0660. The copy without the list is
#     0660, too, and there it means that the whole group may read and write. So do `shutil.copymode`, `chmod --reference`, and
#     `shutil.copy2` to a disk without access lists, which ignores that the list could not be set. On a disk with them, `copy2` is right.
# Versions: Linux 6.18, GNU coreutils 9.1, Python 3.11 and later. The script needs no package, but a folder with access lists for
#     temporary files, and the right to mount in a namespace.
# Date: 2026-11-29.
# Source: acl(5), "Correspondence between ACL entries and file permission bits"; Lib/shutil.py, copymode and _copyxattr.
# Covered by: storage/library/transfer.py, `_copy_access_list`; tests/storage/library/test_transfer_errors.py, "a copy gives no group the
#     rights that an access list gives to one user".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir plain
cat > make.py <<'PYTHON'
import os
import struct
from pathlib import Path

NOBODY = 2**32 - 1
OWNER, USER, GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
entries = ((OWNER, 6, NOBODY), (USER, 6, os.getuid()), (GROUP, 0, NOBODY), (MASK, 6, NOBODY), (OTHERS, 0, NOBODY))
Path("fox.jpg").write_bytes(b"fox")
os.setxattr("fox.jpg", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
PYTHON
cat > copy.py <<'PYTHON'
import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path


def rights_of_group(path):
    """Return what the file's own group may do: by the access list, if there is one, else by the mode."""
    try:
        access_list = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return stat.S_IMODE(os.stat(path).st_mode) >> 3 & 7
    return next(rights for tag, rights, _ in struct.iter_unpack("<HHI", access_list[4:]) if tag == 0x04)


copies = {"the original": "fox.jpg", "copy2": "same_disk.jpg", "copymode": "by_mode.jpg", "chmod --reference": "by_reference.jpg"}
copies["copy2 to a disk without access lists"] = "plain/fox.jpg"
for name in ("by_mode.jpg", "by_reference.jpg"):
    Path(name).touch(0o600)
shutil.copymode("fox.jpg", "by_mode.jpg")
subprocess.run(["chmod", "--reference=fox.jpg", "by_reference.jpg"], check=True)
for name in ("same_disk.jpg", "plain/fox.jpg"):
    shutil.copy2("fox.jpg", name)
for what, name in copies.items():
    mode = stat.S_IMODE(os.stat(name).st_mode)
    print(f"{what}: mode {mode:04o}, the group has the rights {rights_of_group(name)}")
    assert mode == 0o660
assert [rights_of_group(name) for name in copies.values()] == [0, 0, 6, 6, 6]
PYTHON
python3 make.py
unshare --user --map-root-user --mount bash -c 'mount -t ramfs none plain && python3 copy.py'
