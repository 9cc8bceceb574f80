"""Measures the time from `enqueue` to the start of the handler, with an idle worker in a separate process.

On PostgreSQL, it is compared with PgQueuer; notifications wake both workers. On SQLite, it is compared with the poll
interval.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from benchmarks.databases import empty_postgresql, postgresql_server, sqlite_database
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, JobsRepository, Settings

#: The pause between two jobs, after which the worker is idle again. It is no multiple or part of the poll interval.
_PAUSE_SECONDS = 0.037


def run(options: Options) -> Report:
    """Measure both databases."""
    count = options.size(60, 3)
    rounds = options.rounds(7)
    report = Report("pickup latency", notes=[f"median of {count} jobs a round; the worker is idle before each"])
    poll_ms = Settings.load().poll_seconds * 1000
    with ExitStack() as stack:
        database = stack.enter_context(sqlite_database())
        url = database.engine.url.render_as_string()
        ours = stack.enter_context(_worker(_photojobs_worker, url))
        values = in_turns({"sqlite": lambda: _latency(_photojobs_enqueue(database), ours, count)}, rounds=rounds)
        report.ratios.append(
            Ratio(
                what="sqlite",
                unit="ms",
                ours=values["sqlite"],
                others=[poll_ms] * len(values["sqlite"]),
                against="poll interval",
                target=1.0,
                at_least=False,
            )
        )
    with ExitStack() as stack:
        server = stack.enter_context(postgresql_server())
        url, other_url = (stack.enter_context(empty_postgresql(server)) for _ in range(2))
        postgresql = Database(url)
        stack.callback(postgresql.close)
        postgresql.migrate()
        enqueue_other = stack.enter_context(_pgqueuer_enqueue(other_url))
        ours = stack.enter_context(_worker(_photojobs_worker, url))
        theirs = stack.enter_context(_worker(_pgqueuer_worker, other_url))
        values = in_turns(
            {
                "ours": lambda: _latency(_photojobs_enqueue(postgresql), ours, count),
                "PgQueuer": lambda: _latency(enqueue_other, theirs, count),
            },
            rounds=rounds,
        )
        report.ratios.append(
            Ratio(
                what="postgresql",
                unit="ms",
                ours=values["ours"],
                others=values["PgQueuer"],
                against="PgQueuer",
                target=1.0,
                at_least=False,
            )
        )
    return report


def _latency(enqueue: Callable[[], None], started: Connection, count: int) -> float:
    took = []
    for _ in range(count):
        time.sleep(_PAUSE_SECONDS)
        # All processes of a machine share the monotonic clock.
        began = time.monotonic()
        enqueue()
        took.append(started.recv() - began)
    return statistics.median(took) * 1000


@contextmanager
def _worker(serve: Callable[[str, Connection], None], url: str) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(url, theirs), daemon=True)
    process.start()
    assert ours.recv() == "ready"
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _photojobs_worker(url: str, pipe: Connection) -> None:
    from flows.execution.worker import Worker
    from flows.handlers.step import load_steps, step
    from flows.handlers.step_context import StepContext
    from flows.process.runtime import Runtime

    @step("tell", unit="library", modifies_files=False)
    def tell(ctx: StepContext) -> None:
        """Send the time at which the handler started."""
        pipe.send(time.monotonic())

    load_steps()
    with Runtime(Database(url), settings=Settings.load(database_url=url)) as runtime:
        threading.Timer(1.0, pipe.send, args=("ready",)).start()
        Worker(runtime).run()


def _photojobs_enqueue(database: Database) -> Callable[[], None]:
    def enqueue() -> None:
        JobsRepository(database).enqueue(tenant_id="tenant", type="tell", scope="global")

    return enqueue


def _pgqueuer_worker(url: str, pipe: Connection) -> None:
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.models import Job

    async def work() -> None:
        queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))

        @queuer.entrypoint("tell")
        async def tell(job: Job) -> None:
            pipe.send(time.monotonic())

        asyncio.get_running_loop().call_later(1.0, pipe.send, "ready")
        await queuer.run()

    asyncio.run(work())


@contextmanager
def _pgqueuer_enqueue(url: str) -> Iterator[Callable[[], None]]:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        queries = Queries(AsyncpgDriver(connection))
        runner.run(queries.install())

        def enqueue() -> None:
            runner.run(queries.enqueue("tell", None))

        yield enqueue
        runner.run(connection.close())


if __name__ == "__main__":
    command(run)
