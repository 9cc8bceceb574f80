#!/usr/bin/env bash
# On a disk that ignores case, Linux does not rename `Alps` to `ALPS`: the call succeeds, and the disk is never asked to.
#
# Guess: `os.rename` changes the spelling of a name where case does not count, as on macOS and Windows, or else fails. When it has
#     returned, a listing shows the new spelling.
# Behaviour: Linux looks both names up first. If the file system finds one file or folder for both, the rename counts as one between two
#     hard links, which POSIX wants to succeed without any change. This happens above the file system, so it is the same for each
#     one that finds names without regard to case, such as vfat and folders with `chattr +F`. The listing shows the old
#     spelling, so a program that follows it finds that the name was changed back, and renames again at each run. Two renames,
#     by way of another name, work.
# Versions: Linux 6.18, Python 3.11 and later. The script needs no package, but the right to mount in a namespace: it is itself a file
#     system, by FUSE, that ignores case and notes what Linux asks of it.
# Date: 2026-11-29.
# Source: Linux, fs/namei.c, vfs_rename: `if (source == target) return 0`, with the inodes of both names; rename(2).
# Covered by: storage/library/exclusive_rename.py, `change_spelling`; tests/storage/library/test_transfer_errors.py, "a folder or file
#     that keeps its spelling is not taken for renamed".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/disk"
cat > "$folder/look.py" <<'PYTHON'
import ctypes
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, RENAME, INIT, OPENDIR, READDIR, RENAME2, BATCH_FORGET = 1, 2, 3, 12, 26, 27, 28, 45, 42
FOLDER, FILE = 0o040755, 0o100644
names = {2: "fox.jpg", 3: "Alps"}  # The entries of the root, which is node 1.


def attributes(node):
    mode = FILE if node == 2 else FOLDER
    return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, body, asked):
    if opcode == INIT:
        return struct.pack("<4I2H2I2HI28x", 7, 31, 0, 0, 0, 0, 65536, 1, 0, 0, 0)
    if opcode == GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attributes(node)
    if opcode == LOOKUP:
        wanted = body.split(b"\0")[0].decode().lower()
        found = next((known for known, name in names.items() if name.lower() == wanted), None)
        return None if found is None else struct.pack("<4Q2I", found, 0, 0, 0, 0, 0) + attributes(found)
    if opcode == OPENDIR:
        return struct.pack("<QII", 0, 0, 0)
    if opcode == READDIR:
        start, listed = struct.unpack_from("<Q", body, 8)[0], b""
        for place, (known, name) in list(enumerate(names.items(), 1))[start:]:
            listed += struct.pack("<QQII", known, place, len(name), 0) + name.encode().ljust(-(-len(name) // 8) * 8, b"\0")
        return listed
    if opcode in (RENAME, RENAME2):
        old, new = (name.decode() for name in body[8 if opcode == RENAME else 16 :].split(b"\0")[:2])
        asked.append(f"{old} -> {new}")
        names[next(known for known, name in names.items() if name == old)] = new
        return b""
    return None


def serve(device):
    asked = []
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError:
            return
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in (FORGET, BATCH_FORGET):
            continue
        before = len(asked)
        found = answer(opcode, node, request[40:], asked)
        if len(asked) > before:
            print("   Linux asks the file system for:", asked[-1], flush=True)
        error = 0 if found is not None else -2 if opcode == LOOKUP else -38  # ENOENT, ENOSYS
        os.write(device, struct.pack("<IiQ", 16 + len(found or b""), error, unique) + (found or b""))


device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
system = ctypes.CDLL(None, use_errno=True)
if system.mount(b"names", b"disk", b"fuse", 0, options) != 0:
    sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
server = os.fork()
if server == 0:
    serve(device)
    os._exit(0)
os.close(device)
for old, new in (("Alps", "ALPS"), ("fox.jpg", "FOX.JPG")):
    os.rename(f"disk/{old}", f"disk/{new}")
    print(f"after the rename of {old} to {new}, the disk has:", sorted(os.listdir("disk")))
    assert old in os.listdir("disk") and new not in os.listdir("disk")
    os.rename(f"disk/{old}", "disk/between")
    os.rename("disk/between", f"disk/{new}")
    print("after two renames:", sorted(os.listdir("disk")))
    assert new in os.listdir("disk")
PYTHON
cd "$folder"
unshare --user --map-root-user --mount --pid --fork --kill-child timeout 60 python3 look.py
