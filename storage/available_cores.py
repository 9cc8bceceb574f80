"""Finds out how many cores this process may use. A container or service may have fewer than its machine.

The defaults of the settings `concurrency` and `max_flow_runs` are computed from this number, in `storage.settings`.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def available_cores(*, cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the number of the machine's cores, or less if the process may run on some of them only, or if a cgroup
    (version 2) limits its processor time, as `docker run --cpus` and `CPUQuota` of systemd do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(limit) for limit in _limits(cgroups, own_cgroup))]))


def _limits(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    """Yield the limits of the process's cgroup and of all cgroups that contain it, in cores."""
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    # A container may see only its own cgroup, at the root, although the path is that of the host.
    for folder in (cgroups / own, *(cgroups / own).parents):
        if not folder.is_relative_to(cgroups):
            return
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except OSError:
            continue
        if quota != "max":
            yield int(quota) / int(period)
