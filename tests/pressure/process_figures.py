"""Reads the memory, threads and open files of a process from Linux."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """The memory of a process in units of 1,048,576 bytes, and the numbers of its threads and open files."""

    memory_mb: float
    threads: int
    files: int

    @classmethod
    def of(cls, process_id: int) -> ProcessFigures | None:
        """Return the figures of a process; None if the process has ended."""
        try:
            lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
            files = len(os.listdir(f"/proc/{process_id}/fd"))
        except OSError:
            return None
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if "VmRSS" not in fields:
            return None
        return cls(memory_mb=int(fields["VmRSS"].split()[0]) / 1024, threads=int(fields["Threads"]), files=files)


def child_running(parent_id: int, module: str) -> int | None:
    """Return the id of the child process that runs `python -m MODULE`; None if there is none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_text().split("\0") if parent == parent_id else []
        except OSError:
            continue
        if module in words:
            return int(entry.name)
    return None
