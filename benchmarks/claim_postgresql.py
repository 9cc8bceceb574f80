"""Measures claims and ends of jobs on PostgreSQL by 1, 4 and 8 processes, compared with Procrastinate and PgQueuer.

Every worker ends its job before it takes the next. Each library is called as its own worker calls it: Procrastinate and
PgQueuer claim and end a job in two commits; photojobs ends a job and claims the next in one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.crew import Crew, crew
from benchmarks.databases import empty_postgresql, postgresql_server
from benchmarks.job_queues import JobQueue, PgQueuer, Photojobs, Procrastinate
from benchmarks.measure import Options, Ratio, Report, command, in_turns


def run(options: Options) -> Report:
    """Measure the three libraries on one server, in turns."""
    count = options.size(4_000, 40)
    queue_classes: tuple[type[JobQueue], ...] = (Photojobs, Procrastinate, PgQueuer)
    report = Report("claim and complete on PostgreSQL", notes=[f"{count} jobs a round; one job at a time a process"])
    with postgresql_server() as server, ExitStack() as databases:
        queues: list[tuple[JobQueue, str]] = []
        for queue_class in queue_classes:
            url = databases.enter_context(empty_postgresql(server))
            queue = queue_class(url)
            databases.callback(queue.close)
            queues.append((queue, url))
        for workers in (1,) if options.small else (1, 4, 8):
            with ExitStack() as crews:
                contestants = {}
                for queue, url in queues:
                    members = crews.enter_context(crew(type(queue).open, url, size=workers))
                    contestants[queue.name] = _round_of(queue, members, count)
                values = in_turns(contestants, rounds=options.size(7, 1))
            for other in ("Procrastinate", "PgQueuer"):
                report.ratios.append(
                    Ratio(
                        what=f"{workers} worker{'s' if workers > 1 else ''}",
                        unit="jobs/s",
                        ours=values["photojobs"],
                        others=values[other],
                        against=other,
                        target=1.0,
                    )
                )
    return report


def _round_of(queue: JobQueue, members: Crew, count: int) -> Callable[[], float]:
    def measure() -> float:
        queue.fill(count)
        return members.work(count)

    return measure


if __name__ == "__main__":
    command(run)
