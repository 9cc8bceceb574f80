"""The job queues on PostgreSQL that the benchmarks compare: how each is set up, filled and drained.

Each queue claims and ends jobs by the calls of its own worker, with the driver that its documentation recommends and
its own settings of the server. All queues wait until each claim and each end is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar, Protocol
from uuid import uuid4

import psycopg

from benchmarks.job_rows import empty_queue, fill_queue
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
    def open(url: str) -> Iterator[Callable[[], int]]: ...


class Photojobs:
    """photojobs: `claim`, as the executor calls it. One commit ends a job and claims the next."""

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

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def open(url: str) -> Iterator[Callable[[], int]]:
        database = Database(url)
        jobs = JobsRepository(database)
        wanted = Wanted(lanes=("priority", "normal"))

        def work() -> int:
            done = 0
            job = jobs.claim_next("bench", lane="normal")
            while job is not None:
                done += 1
                end = End(job_id=job.id, status=JobStatus.COMPLETED, claim_token=job.claim_token, result={})
                job = next(iter(jobs.claim("bench", wanted, limit=1, ended=[end]).claimed), None)
            return done

        yield work
        database.close()


class Procrastinate:
    """Procrastinate: `fetch_job` and `finish_job` of its job manager, with psycopg's asynchronous pool."""

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
    def open(url: str) -> Iterator[Callable[[], int]]:
        from procrastinate.jobs import Status

        app = _procrastinate_app(url)

        async def work(worker_id: int) -> int:
            done = 0
            while (job := await app.job_manager.fetch_job(None, worker_id)) is not None:
                await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
                done += 1
            return done

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
    def open(url: str) -> Iterator[Callable[[], int]]:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import EntrypointExecutionParameter, Queries

        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(url))
            queries = Queries(AsyncpgDriver(connection))
            how: dict[str, Any] = {
                "batch_size": 1,
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


def _procrastinate_app(url: str) -> Any:
    from procrastinate import App, PsycopgConnector

    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4))
