"""Finds out the file system of a path, if the operating system reports it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: File systems of other machines, as Linux names them.
NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "davfs"}
)

_MOUNTS = Path("/proc/self/mountinfo")


def file_system_type(path: Path, *, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the file system of a path, such as `ext4`; None if the operating system does not report it."""
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real = os.path.realpath(path)
    best, found = -1, None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        # If several file systems are mounted at the same place, the last one is visible.
        if len(point) >= best and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, found = len(point), after.split()[0]
    return found


def is_network(type_name: str | None) -> bool:
    """Return True if a file system of this type belongs to another machine."""
    return type_name in NETWORK_TYPES


def space(path: Path) -> tuple[int, int]:
    """Return the free and the total bytes of a path's file system; a missing path counts as its parent folder.

    Both numbers are 0 if the file system does not report its size.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return usage.free, usage.total
