"""Measures claims and ends of jobs on PostgreSQL by 1, 4 and 8 processes, compared with Procrastinate and PgQueuer.

Every worker ends its jobs before it takes the next. Each library is called as its own worker calls it: Procrastinate
and PgQueuer claim and end jobs in two commits; photojobs ends jobs and claims the next in one commit. In a second part
each of 8 workers has `BATCH` jobs at a time. In a third part, one process with 8 and 64 jobs at a time is compared with
awa, if awa-pg is installed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec

from benchmarks.crew import Crew, crew
from benchmarks.databases import empty_postgresql, postgresql_server
from benchmarks.job_queues import JobQueue, PgQueuer, Photojobs, Procrastinate, awa_rate
from benchmarks.measure import Options, Ratio, Report, command, in_turns

#: The jobs that a worker has at a time in the second part: PgQueuer's own default.
BATCH = 10


def run(options: Options) -> Report:
    """Measure the libraries on one server, in turns."""
    count = options.size(4_000, 40)
    peers: tuple[type[JobQueue], ...] = (Procrastinate, PgQueuer)
    report = Report("claim and complete on PostgreSQL", notes=[f"{count} jobs of one task a round"])
    with postgresql_server() as server:
        for workers in (1,) if options.small else (1, 4, 8):
            target = 3.0 if workers == 8 else 1.0
            _compare(report, server, options, peers, count=count, workers=workers, batch=1, target=target)
        _compare(report, server, options, peers, count=count, workers=options.size(8, 1), batch=BATCH, target=1.5)
        for in_flight in (8, 64) if find_spec("awa") else ():
            _compare_with_awa(report, server, options, count=count, in_flight=in_flight)
    return report


def _compare(
    report: Report,
    server: str,
    options: Options,
    peers: Sequence[type[JobQueue]],
    *,
    count: int,
    workers: int,
    batch: int,
    target: float,
) -> None:
    with ExitStack() as opened:
        contestants = {}
        queue_classes: list[type[JobQueue]] = [Photojobs, *peers]
        for queue_class in queue_classes:
            url = opened.enter_context(empty_postgresql(server))
            queue = queue_class(url)
            opened.callback(queue.close)
            members = opened.enter_context(crew(partial(queue_class.open, batch=batch), url, size=workers))
            contestants[queue.name] = _round_of(queue, members, count)
        values = in_turns(contestants, rounds=options.rounds(7))
    what = f"{workers} worker{'s' if workers > 1 else ''}, {batch} job{'s' if batch > 1 else ''} at a time"
    for peer in peers:
        report.ratios.append(
            Ratio(
                what=what,
                unit="jobs/s",
                ours=values["photojobs"],
                others=values[peer.name],
                against=peer.name,
                target=target,
            )
        )


def _compare_with_awa(report: Report, server: str, options: Options, *, count: int, in_flight: int) -> None:
    with ExitStack() as opened:
        ours, theirs = (opened.enter_context(empty_postgresql(server)) for _ in range(2))
        queue = Photojobs(ours)
        opened.callback(queue.close)
        work = opened.enter_context(contextmanager(Photojobs.open)(ours, batch=in_flight))

        def measure() -> float:
            queue.fill(count)
            began = time.perf_counter()
            assert work() == count
            return count / (time.perf_counter() - began)

        contestants = {
            "photojobs": measure,
            "awa": lambda: asyncio.run(awa_rate(theirs, count, batch=in_flight)),
        }
        values = in_turns(contestants, rounds=options.rounds(7))
    report.ratios.append(
        Ratio(
            what=f"1 process, {in_flight} jobs at a time",
            unit="jobs/s",
            ours=values["photojobs"],
            others=values["awa"],
            against="awa",
            target=1.0,
        )
    )


def _round_of(queue: JobQueue, members: Crew, count: int) -> Callable[[], float]:
    def measure() -> float:
        queue.fill(count)
        return members.work(count)

    return measure


if __name__ == "__main__":
    command(run)
