"""Measures the nightly upkeep (`maintenance_global`) of unchanged files, compared with another build of photojobs.

The benchmark also measures the peak memory of the upkeep and of `verify_originals`.

OTHER_BUILD_PYTHON is the path of the Python interpreter of the other build. Without it, only memory is measured. The
compared time is processor time, because other work on the machine changes it less than wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command

_SCRIPT = Path(__file__).with_name("one_upkeep.py")


def run(options: Options) -> Report:
    """Measure the time for 20 projects, and the memory for one project, with separate processes for each size."""
    report = Report("upkeep", notes=["SQLite; each photo has a JPEG, a thumbnail and a preview"])
    other = os.environ.get("OTHER_BUILD_PYTHON")
    if other is not None:
        _measure_time(report, options, other)
    _measure_memory(report, options)
    return report


def _measure_time(report: Report, options: Options, other: str) -> None:
    count = options.size(200_000, 2_000)
    pythons = {"ours": sys.executable, "other": other}
    values: dict[str, list[float]] = {name: [] for name in pythons}
    with temporary_folder() as folder:
        for python in pythons.values():
            _run(python, "make", folder, count, 20)
        for _ in range(options.rounds(5)):
            for name, python in pythons.items():
                values[name].append(json.loads(_run(python, "measure", folder))["processor"])
    report.ratios.append(
        Ratio(
            what=f"{count:,} unchanged files, processor time",
            unit="s",
            ours=values["ours"],
            others=values["other"],
            against=other,
            target=1.1,
            at_least=False,
        )
    )


def _measure_memory(report: Report, options: Options) -> None:
    large, small = options.size(1_000_000, 2_000), options.size(10_000, 500)
    peaks: dict[tuple[str, int], list[float]] = {}
    for count in (large, small):
        with temporary_folder() as folder:
            _run(sys.executable, "make", folder, count, 1)
            for what in ("measure", "verify"):
                peaks[what, count] = [json.loads(_run(sys.executable, what, folder))["peak_mb"]]
    for what, name in (("measure", "peak memory"), ("verify", "peak memory of verify_originals")):
        report.ratios.append(
            Ratio(
                what=f"{name}, a project of {large:,}",
                unit="MB",
                ours=peaks[what, large],
                others=peaks[what, small],
                against=f"{small:,}",
                target=1.3,
                at_least=False,
            )
        )


def _run(python: str, *arguments: object) -> bytes:
    # The script is run from another folder, so that the other build does not import `flows` and `storage` from here.
    command_line = [python, str(_SCRIPT), *map(str, arguments)]
    return subprocess.run(command_line, stdout=subprocess.PIPE, check=True, cwd=_SCRIPT.anchor).stdout


if __name__ == "__main__":
    command(run)
