"""Identifies the mount of a file. Between two mounts, the system refuses a rename, even if both show one disk.

A bind mount, such as a volume of a container, shows a folder of a disk at a second place. Its files have the device
number of the disk, so that only the number of the mount tells the two places apart.
"""

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Final

_NUMBER: Final = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)

#: The number of the device and the number of the mount. The latter is 0 if the system does not show it.
Mount = tuple[int, int]


def mount_of(path: Path, *, follow_symlinks: bool = True) -> Mount:
    """Return the mount of a file or folder. Two of them are on the same mount if the results are equal."""
    if sys.platform != "linux":
        return path.stat(follow_symlinks=follow_symlinks).st_dev, 0
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW))
    try:
        return mount_of_descriptor(descriptor)
    finally:
        os.close(descriptor)


def mount_of_descriptor(descriptor: int) -> Mount:
    """Return the mount of an open file or folder, as `mount_of` does."""
    found: re.Match[bytes] | None = None
    with contextlib.suppress(OSError):  # /proc may be missing or hidden.
        found = _NUMBER.search(Path(f"/proc/self/fdinfo/{descriptor}").read_bytes())
    return os.fstat(descriptor).st_dev, int(found[1]) if found else 0
