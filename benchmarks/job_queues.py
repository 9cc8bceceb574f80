"""The job queues on PostgreSQL that the benchmarks compare: how each is set up, filled and drained.

Each queue claims and ends jobs by the calls of its own worker, with the driver that its documentation recommends and
its own settings of the server. All queues wait until each claim and each end is on disk. A worker has up to `batch`
jobs at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, ClassVar, Protocol
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from benchmarks.job_rows import empty_queue, fill_queue, make_one_task
from storage import Database, JobsRepository
from storage.queue.exchange import End, Wanted
from storage.records import JobStatus


class JobQueue(Protocol):
    """A job queue in a separate database."""

    name: ClassVar[str]

    def __init__(self, url: str) -> None: ...

    def fill(self, count: int) -> None: ...

    def close(self) -> None: ...

    @staticmethod
    def open(url: str, *, batch: int = 1) -> Iterator[Callable[[], int]]: ...


class Photojobs:
    """photojobs: `claim`, as the executor calls it, for jobs of one task. One commit ends jobs and claims the next."""

    name: ClassVar[str] = "photojobs"

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._database.migrate()
        with self._database.begin() as connection:
            # The other queues do not limit how many jobs may run.
            connection.exec_driver_sql("UPDATE lanes SET slots = NULL")

    def fill(self, count: int) -> None:
        empty_queue(self._database)
        fill_queue(self._database, count)
        make_one_task(self._database)

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def open(url: str, *, batch: int = 1) -> Iterator[Callable[[], int]]:
        database = Database(url)
        jobs = JobsRepository(database)
        wanted = Wanted(lanes=("priority", "normal"))

        def work() -> int:
            done = 0
            claimed = jobs.claim("bench", wanted, limit=batch).claimed
            while claimed:
                done += len(claimed)
                ended = [
                    End(job_id=job.id, status=JobStatus.COMPLETED, claim_token=job.claim_token, result={})
                    for job in claimed
                ]
                claimed = jobs.claim("bench", wanted, limit=batch, ended=ended).claimed
            return done

        yield work
        database.close()


class Procrastinate:
    """Procrastinate: `fetch_job` and `finish_job` of its job manager, with psycopg's asynchronous pool.

    It claims and ends one job at a time. Its worker has several jobs at a time in as many coroutines.
    """

    name: ClassVar[str] = "Procrastinate"

    def __init__(self, url: str) -> None:
        self._url = url
        app = _procrastinate_app(url)

        async def install() -> None:
            async with app.open_async():
                await app.schema_manager.apply_schema_async()

        asyncio.run(install())

    def fill(self, count: int) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")
            connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args) "
                f"SELECT 'default', 'noop', 50, '{{\"number\": 1}}' FROM generate_series(1, {count})"
            )
            connection.execute("VACUUM ANALYZE procrastinate_jobs")

    def close(self) -> None:
        pass

    @staticmethod
    def open(url: str, *, batch: int = 1) -> Iterator[Callable[[], int]]:
        from procrastinate.jobs import Status

        app = _procrastinate_app(url, connections=batch)

        async def work_off(worker_id: int) -> int:
            done = 0
            while (job := await app.job_manager.fetch_job(None, worker_id)) is not None:
                await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
                done += 1
            return done

        async def work(worker_id: int) -> int:
            return sum(await asyncio.gather(*(work_off(worker_id) for _ in range(batch))))

        with asyncio.Runner() as runner:
            runner.run(app.open_async().__aenter__())
            worker_id = runner.run(app.job_manager.register_worker())
            yield lambda: runner.run(work(worker_id))
            runner.run(app.close_async())


class PgQueuer:
    """PgQueuer: `dequeue` and `log_jobs` of its queries, with asyncpg."""

    name: ClassVar[str] = "PgQueuer"

    def __init__(self, url: str) -> None:
        self._url = url

        async def install() -> None:
            import asyncpg
            from pgqueuer.db import AsyncpgDriver
            from pgqueuer.queries import Queries

            connection = await asyncpg.connect(url)
            await Queries(AsyncpgDriver(connection)).install()
            await connection.close()

        asyncio.run(install())

    def fill(self, count: int) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("TRUNCATE pgqueuer, pgqueuer_log")
            connection.execute(
                "INSERT INTO pgqueuer (priority, status, entrypoint, payload) "
                f"SELECT 50, 'queued', 'noop', '\\x31' FROM generate_series(1, {count})"
            )
            connection.execute("VACUUM ANALYZE pgqueuer")

    def close(self) -> None:
        pass

    @staticmethod
    def open(url: str, *, batch: int = 1) -> Iterator[Callable[[], int]]:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import EntrypointExecutionParameter, Queries

        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(url))
            queries = Queries(AsyncpgDriver(connection))
            how: dict[str, Any] = {
                "batch_size": batch,
                "entrypoints": {"noop": EntrypointExecutionParameter(concurrency_limit=0)},
                "queue_manager_id": uuid4(),
                "global_concurrency_limit": None,
                "heartbeat_timeout": timedelta(seconds=30),
            }

            async def work() -> int:
                done = 0
                while jobs := await queries.dequeue(**how):
                    await queries.log_jobs([(job, "successful", None) for job in jobs])
                    done += len(jobs)
                return done

            yield lambda: runner.run(work())
            runner.run(connection.close())


@dataclass
class Noop:
    """The arguments of a job of awa."""

    number: int


async def awa_rate(url: str, count: int, *, batch: int) -> float:
    """Insert jobs, let a worker of awa-pg with a handler that does nothing run them, and return the jobs per second.

    The time ends when the last job has run, whether or not its end is written.
    """
    client = import_module("awa").AsyncClient(_with_host(url), max_connections=20)
    await client.migrate()
    await client.insert_many_copy([Noop(number) for number in range(count)], queue="noop")
    done, is_done = 0, asyncio.Event()

    async def noop(_job: Any) -> None:
        nonlocal done
        done += 1
        if done == count:
            is_done.set()

    client.task(Noop, queue="noop")(noop)
    began = time.perf_counter()
    await client.start([("noop", batch)])
    await is_done.wait()
    took = time.perf_counter() - began
    await client.shutdown()
    await client.close()
    return count / took


def _with_host(url: str) -> str:
    """Return the URL with a host name, which awa needs beside the folder of the server's socket."""
    return make_url(url).set(drivername="postgresql", host="localhost").render_as_string(hide_password=False)


def _procrastinate_app(url: str, *, connections: int = 1) -> Any:
    from procrastinate import App, PsycopgConnector

    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=max(4, connections)))
