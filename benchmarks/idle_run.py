"""Measures `photojobs run` of one small step with nothing else to do: wall and processor time, first line, first job.

The times are compared with the longest acceptable times for a user. If BENCHMARK_BEFORE is the path of the command of
another installation, they are also compared with that installation, in turns.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command

OURS = Path(sys.executable).with_name("photojobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """The durations of one run, which include child processes."""

    wall: float
    processor: float
    first_line: float
    first_job: float


LIMITS = Seconds(wall=3.0, processor=3.0, first_line=0.5, first_job=1.0)
#: The target ratios of the wall time and the processor time to those of the other installation.
TARGETS = {"wall": 0.3, "processor": 0.35}


def run(options: Options) -> Report:
    """Run each command repeatedly in a separate folder. The first run, which creates the databases, is not counted."""
    before = os.environ.get("BENCHMARK_BEFORE")
    commands = {"ours": OURS} | ({"before": Path(before)} if before else {})
    taken: dict[str, list[Seconds]] = {name: [] for name in commands}
    with temporary_folder() as folder:
        for name in commands:
            (folder / name / "library" / "user_0" / "alps").mkdir(parents=True)
        for number in range(options.rounds(5) + 1):
            for name, executable in commands.items():
                seconds = _run(executable, folder / name)
                if number:
                    taken[name].append(seconds)
    report = Report("idle run", notes=["folder_discovery of one project without photos, SQLite, no server"])
    for field in fields(Seconds):
        ours = [getattr(seconds, field.name) for seconds in taken["ours"]]
        limits = [getattr(LIMITS, field.name)] * len(ours)
        what = field.name.replace("_", " ")
        report.ratios.append(
            Ratio(what=what, unit="s", ours=ours, others=limits, against="the limit", target=1.0, at_least=False)
        )
        if before:
            others = [getattr(seconds, field.name) for seconds in taken["before"]]
            target = TARGETS.get(field.name)
            report.ratios.append(
                Ratio(what=what, unit="s", ours=ours, others=others, against="before", target=target, at_least=False)
            )
    return report


def _run(executable: Path, place: Path) -> Seconds:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PHOTOJOBS_DATABASE_URL": f"sqlite:///{place}/photojobs.db",
        "PHOTOJOBS_LIBRARY_ROOT": str(place / "library"),
    }
    used_before = _processor_seconds()
    began_at, began = datetime.now(UTC), time.monotonic()
    process = subprocess.Popen(
        [executable, "run", "folder_discovery"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    first_line = time.monotonic() - began
    said += process.stdout.read()
    assert process.wait() == 0, said
    wall = time.monotonic() - began
    # The start is read by plain SQL, because the other installation may have another schema.
    with closing(sqlite3.connect(place / "photojobs.db")) as connection:
        [(started_at,)] = connection.execute("SELECT started_at FROM jobs ORDER BY id DESC LIMIT 1")
    return Seconds(
        wall=wall,
        processor=_processor_seconds() - used_before,
        first_line=first_line,
        first_job=(datetime.fromisoformat(started_at) - began_at).total_seconds(),
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    command(run)
