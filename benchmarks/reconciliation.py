"""Measures `manifest_check` and `folder_check` over unchanged files, compared with `find` and a SELECT of the rows.

The benchmark also compares the peak memory of these steps for a project of 1,000,000 files with a project of 10,000
files. The files are empty, because the steps do not read their contents.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, in_turns, peak_mb, peak_mb_of
from flows.process.runtime import Runtime
from flows.testing import run_step
from storage import Database, ProjectsRepository, Settings

_STEPS = ("manifest_check", "folder_check")
_NOW = "2025-10-01T12:00:00.000Z"


def run(options: Options) -> Report:
    """Measure the time for 20 projects, and the memory for one project, with a separate process for each size."""
    report = Report("reconciliation", notes=["SQLite; unchanged files, so that nothing is written"])
    _measure_time(report, options)
    _measure_memory(report, options)
    return report


def _measure_time(report: Report, options: Options) -> None:
    count = options.size(200_000, 2_000)
    with temporary_folder() as folder:
        url = _library(folder, projects=20, files=count // 20)
        path = folder / "photojobs.db"
        with Runtime(Database(url), settings=_settings(folder, url)) as runtime:

            def ours() -> float:
                began = time.perf_counter()
                _reconcile(runtime)
                return time.perf_counter() - began

            def bare() -> float:
                began = time.perf_counter()
                found = subprocess.run(["find", str(folder / "library")], stdout=subprocess.PIPE, check=True).stdout
                with closing(sqlite3.connect(path)) as connection:
                    rows = connection.execute("SELECT * FROM photos").fetchall()
                assert found.count(b".jpg") == len(rows) == count
                return time.perf_counter() - began

            values = in_turns({"ours": ours, "bare": bare}, rounds=options.size(5, 1))
    report.ratios.append(
        Ratio(
            what=f"{count:,} files, both steps",
            unit="s",
            ours=values["ours"],
            others=values["bare"],
            against="find and SELECT",
            target=3,
            at_least=False,
        )
    )


def _measure_memory(report: Report, options: Options) -> None:
    large, small = options.size(1_000_000, 2_000), options.size(10_000, 500)
    peaks: dict[int, list[float]] = {large: [], small: []}
    for count in peaks:
        with temporary_folder() as folder:
            url = _library(folder, projects=1, files=count)
            for _ in range(options.size(2, 1)):
                peaks[count].append(peak_mb_of("benchmarks.reconciliation", folder, url))
    report.ratios.append(
        Ratio(
            what=f"peak memory, a project of {large:,}",
            unit="MB",
            ours=peaks[large],
            others=peaks[small],
            against=f"{small:,}",
            target=1.3,
            at_least=False,
        )
    )


def measure(folder: Path, url: str) -> float:
    """Run the steps in this process, and return its peak memory."""
    with Runtime(Database(url), settings=_settings(folder, url)) as runtime:
        _reconcile(runtime)
    return peak_mb()


def _reconcile(runtime: Runtime) -> None:
    for step in _STEPS:
        job = run_step(runtime, type=step, tenant_id="user_0", scope="global")
        assert job.status == "completed", job.error_message


def _settings(folder: Path, url: str) -> Settings:
    return Settings.load(database_url=url, library_root=folder / "library")


def _library(folder: Path, *, projects: int, files: int) -> str:
    database = Database(folder / "photojobs.db")
    database.migrate()
    for number in range(projects):
        project = ProjectsRepository(database).create(
            project_name=f"project {number}", project_folder=f"project {number}", tenant_id="user_0"
        )
        place = folder / "library" / "user_0" / project.project_folder
        place.mkdir(parents=True)
        for file in range(files):
            os.close(os.open(place / f"p{number}-{file}.jpg", os.O_CREAT | os.O_WRONLY))
        with database.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO photos (project_id, filename, jpg_available, created_at, updated_at) "
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "SELECT ?, 'p' || ? || '-' || i, 1, ?, ? FROM n",
                (files - 1, project.id, number, _NOW, _NOW),
            )
    url = database.engine.url.render_as_string()
    with Runtime(database, settings=_settings(folder, url)) as runtime:
        _reconcile(runtime)
    database.close()
    return url


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure(Path(sys.argv[2]), sys.argv[3]))
    else:
        command(run)
