"""Measures the peak memory of a process that runs a task with 1,000,000 items, compared with 10,000 items.

The task runs in its compiled flow, with a Prefect server in a separate process. It is started with a generator of items
and divided into chunks, and each item is read with its photo and marked as done.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, peak_mb, peak_mb_of
from benchmarks.noop_steps import noop_definition, register_noop_steps
from storage import Database, Settings


def run(options: Options) -> Report:
    """Measure each size in a separate process."""
    from deployments.server.prefect_server import embedded_server

    large, small = options.size(1_000_000, 6_000), options.size(10_000, 2_000)
    rounds = options.rounds(2)
    peaks: dict[int, list[float]] = {large: [], small: []}
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        stack.enter_context(embedded_server(folder / "prefect"))
        database = Database(folder / "photojobs.db")
        database.migrate()
        _add_photos(database, large)
        url = database.engine.url.render_as_string()
        database.close()
        for _ in range(rounds):
            for count in (small, large):
                peaks[count].append(peak_mb_of("benchmarks.task_memory", url, count, PREFECT_LOGGING_LEVEL="ERROR"))
    report = Report("memory of a task", notes=[f"peak resident size of the process; {rounds} processes each"])
    report.ratios.append(
        Ratio(
            what=f"{large:,} items",
            unit="MB",
            ours=peaks[large],
            others=peaks[small],
            against=f"{small:,} items",
            target=1.3,
            at_least=False,
        )
    )
    return report


def measure(url: str, count: int) -> float:
    """Run the task in this process, and return its peak memory."""
    from flows import run_task
    from flows.process.runtime import Runtime

    register_noop_steps()
    with Runtime(Database(url), settings=Settings.load(database_url=url)) as runtime, runtime.as_current():
        summary = run_task(
            type=noop_definition("go_over_items"),
            tenant_id="user_0",
            items=({"photo_id": number} for number in range(1, count + 1)),
        )
    assert summary.task.status == "completed", summary.message
    return peak_mb()


def _add_photos(database: Database, count: int) -> None:
    now = "2025-10-01T12:00:00.000Z"
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO projects (id, project_folder, project_name, created_at, updated_at) "
            "VALUES (1, 'bench', 'bench', ?, ?)",
            (now, now),
        )
        connection.exec_driver_sql(
            "INSERT INTO photos (project_id, filename, created_at, updated_at) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT 1, 'photo-' || i, ?, ? FROM n",
            (count, now, now),
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure(sys.argv[2], int(sys.argv[3])))
    else:
        command(run)
