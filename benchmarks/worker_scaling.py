"""Measures how the throughput of workers grows from 1 to 4 processes: claim, heartbeat, handler, report and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.crew import Crew, crew
from benchmarks.databases import postgresql_database, postgresql_server, sqlite_database
from benchmarks.job_rows import empty_queue, fill_queue
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, LanesRepository, Settings


def run(options: Options) -> Report:
    """Measure no-op jobs and jobs that wait for 5 ms, on both databases."""
    count = options.size(2_000, 20)
    processes = (1, 2) if options.small else (1, 2, 4)
    report = Report("worker processes", notes=[f"{count} jobs a round; workers of one thread each"])
    with ExitStack() as stack:
        server = stack.enter_context(postgresql_server())
        for database in (
            stack.enter_context(sqlite_database()),
            stack.enter_context(postgresql_database(server)),
        ):
            LanesRepository(database).change("normal", slots=64)
            url = database.engine.url.render_as_string(hide_password=False)
            for step_type in ("noop", "wait"):
                with ExitStack() as crews:
                    contestants = {}
                    for size in processes:
                        workers = crews.enter_context(crew(open_worker, url, size=size))
                        contestants[str(size)] = _round_of(database, workers, step_type, count)
                    values = in_turns(contestants, rounds=options.rounds(5))
                for size in processes[1:]:
                    report.ratios.append(
                        Ratio(
                            what=f"{database.engine.dialect.name}: {step_type}, {size} processes",
                            unit="jobs/s",
                            ours=values[str(size)],
                            others=values["1"],
                            against="1 process",
                        )
                    )
    return report


def open_worker(url: str) -> Iterator[Callable[[], int]]:
    """Yield a function that runs all queued jobs with a worker."""
    from benchmarks.noop_steps import register_noop_steps
    from flows.execution.worker import drain_queue
    from flows.handlers.step import load_steps
    from flows.process.runtime import Runtime

    register_noop_steps()
    with Runtime(Database(url), settings=Settings.load(database_url=url, concurrency=1)) as runtime:
        load_steps()

        def work() -> int:
            summary = drain_queue(runtime=runtime)
            assert set(summary.ended) <= {"completed"}, summary.ended
            return summary.total

        yield work


def _round_of(database: Database, workers: Crew, step_type: str, count: int) -> Callable[[], float]:
    def measure() -> float:
        empty_queue(database)
        fill_queue(database, count, type=step_type)
        return workers.work(count)

    return measure


if __name__ == "__main__":
    command(run)
