"""`JobsRepository`: the calls about jobs for programs (see `docs/quick_reference.md`) and for executors.

Its base class in `storage.queue.job_reading` has the calls that change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, update

from storage.database.clock import age
from storage.database.column_types import MAX_COUNT, check_integer, check_text
from storage.database.tables import jobs
from storage.errors import InvalidValue, TooManyItems
from storage.lifecycle import job_items
from storage.lifecycle.enqueued_chunks import insert_chunks
from storage.lifecycle.job_rows import (
    checked_payload,
    checked_result,
    checked_start,
    find_twin,
    insert_job,
    insert_lone_job,
    insert_or_find,
    new_job_values,
    with_hold,
)
from storage.lifecycle.notifications import notify
from storage.lifecycle.spooled_items import read_items
from storage.lifecycle.state_machine import (
    QUEUED_ANEW,
    end_jobs,
    give_back,
    lock_tasks_of,
    reopen_items,
    reopen_task,
)
from storage.queue.claims import ANY_PRIORITY
from storage.queue.exchange import End, Exchanged, Wanted, exchange, settle_after
from storage.queue.job_reading import JobReading
from storage.queue.rescue import is_silent
from storage.records import Job, JobItem, JobStatus
from task_definitions import MAX_ITEMS_PER_JOB
from task_definitions.wording import shown


class JobsRepository(JobReading):
    """Reads and writes jobs and their items, in a `Database` or inside the caller's own transaction.

    Args:
        source: a `Database`, or an open SQLAlchemy connection; then the calls join its transaction.
    """

    def enqueue(
        self,
        *,
        tenant_id: str,
        type: str,
        project_id: int | None = None,
        scope: str | None = None,
        payload: Mapping[str, Any] | None = None,
        priority: int = 0,
        progress_total: int | None = None,
        max_attempts: int | None = None,
        run_after: datetime | None = None,
        unique_key: str | None = None,
    ) -> Job:
        """Queue a job and return its row.

        The default scope is `project` if there is a `project_id`, else `photo_set`. With a `unique_key`, a queued or
        running job of the same tenant and key is returned instead of a new one. With `run_after`, the job is not
        claimed before that moment.

        Raises:
            InvalidValue: a value cannot be stored, or the scope and `project_id` contradict each other.
            UnknownProject: the project does not exist, or it belongs to another tenant.
        """
        values = new_job_values(
            now=self._access.clock(),
            tenant_id=tenant_id,
            type=type,
            project_id=project_id,
            scope=scope,
            payload=payload,
            priority=priority,
            progress_total=progress_total,
            max_attempts=max_attempts,
            run_after=run_after,
            unique_key=unique_key,
        )
        if project_id is None and unique_key is None:
            return insert_lone_job(self._access.run, values, is_postgresql=self._access.is_postgresql)
        with self._access.write() as connection:
            return insert_job(connection, with_hold(connection, values))

    def enqueue_with_items(
        self,
        *,
        tenant_id: str,
        type: str,
        items: Iterable[Mapping[str, Any]],
        auto_chunk: bool = False,
        project_id: int | None = None,
        scope: str | None = None,
        payload: Mapping[str, Any] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        run_after: datetime | None = None,
        unique_key: str | None = None,
    ) -> Job | list[Job]:
        """Queue a job with its items, in one transaction; `progress_total` is the number of items.

        `items` is any iterable of mappings. Each mapping has `photo_id`, `filename` or both, and optionally `status`
        and `message`. The iterable is read before anything is written, and a long iterable is never completely in
        memory. Up to `MAX_ITEMS_PER_JOB` items make one job, which is returned. More items are refused, unless
        `auto_chunk` is true: then a list of jobs is returned in order, and the payload of each job has `chunk_index`
        (from 0) and `total_chunks`. With a `unique_key`, a queued or running job of the same tenant and key is returned
        unchanged, without these items.

        Raises:
            TooManyItems: there are more than 2000 items, and `auto_chunk` is false. Of an iterator, 2001 were read.
            InvalidValue: an item or another value cannot be stored, or the photo of an item does not exist.
            UnknownProject: the project does not exist, or it belongs to another tenant.
            UnknownPhoto: the photo of an item belongs to another tenant.
        """
        limit = None if auto_chunk else MAX_ITEMS_PER_JOB + 1
        with read_items(items, limit=limit) as given, self._access.write() as connection:
            now = self._access.clock()
            checked = new_job_values(
                now=now,
                tenant_id=tenant_id,
                type=type,
                project_id=project_id,
                scope=scope,
                payload=payload,
                priority=priority,
                max_attempts=max_attempts,
                run_after=run_after,
                unique_key=unique_key,
            )
            values = with_hold(connection, checked)
            twin = find_twin(connection, values)
            if twin is not None:
                return twin
            if len(given) > MAX_ITEMS_PER_JOB:
                if not auto_chunk:
                    raise TooManyItems(len(given), MAX_ITEMS_PER_JOB)
                return insert_chunks(connection, values, given)
            job, is_new = insert_or_find(connection, values | {"progress_total": len(given)})
            if is_new:
                job_items.insert_items(connection, job.id, tenant_id, given, now=now)
            return job

    def enqueue_many(self, specifications: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Queue many jobs in one transaction and return them in order; each mapping has the arguments of `enqueue`."""
        specified = list(specifications)
        with self._access.write() as connection:
            repository = JobsRepository(connection)
            return [repository.enqueue(**specification) for specification in specified]

    def claim_next(
        self,
        worker_id: str,
        *,
        tenant_id: str | None = None,
        min_priority: int | None = None,
        max_priority: int | None = None,
        lane: str | None = None,
    ) -> Job | None:
        """Claim the best queued job that meets the conditions and return it, or None if there is no such job.

        The best job has the highest priority, then the earliest creation time, then the lowest id. Both bounds are
        inclusive. The returned job is `running` and has a new `claim_token`. Two callers never get the same job. With
        `lane`, the bounds, slots, aging and fairness of the lane apply.

        Raises:
            DatabaseBusy: the database stayed locked for longer than the busy timeout.
            UnknownLane: there is no lane with this name.
            InvalidValue: both a lane and bounds were given, a bound is not a whole number of 32 bits, or the id of the
                worker cannot be stored.
        """
        if lane is not None and (min_priority is not None or max_priority is not None):
            raise InvalidValue("lane", f"{shown(lane)} has its own bounds; give either a lane or bounds")
        lowest, highest = ANY_PRIORITY
        if min_priority is not None:
            lowest = check_integer(min_priority, name="min_priority", minimum=lowest, maximum=highest)
        if max_priority is not None:
            highest = check_integer(max_priority, name="max_priority", minimum=ANY_PRIORITY[0], maximum=highest)
        wanted = Wanted(lanes=None if lane is None else (lane,), bounds=(lowest, highest), tenant_id=tenant_id)
        claimed = self.claim(worker_id, wanted, limit=1).claimed
        return claimed[0] if claimed else None

    def claim(self, worker_id: str, wanted: Wanted, *, limit: int, ended: Sequence[End] = ()) -> Exchanged:
        """End jobs and claim up to `limit` of the best jobs that match `wanted`, if possible in one transaction.

        Each claimed job is `running` and has its own `claim_token`. Two callers never get the same job. Inside the
        caller's own transaction, `ended` must be empty.

        Raises:
            DatabaseBusy: the database stayed locked for longer than the busy timeout.
            UnknownLane: a lane in `wanted` does not exist.
            InvalidValue: the worker's id cannot be stored, or `ended` is not empty inside the caller's transaction.
        """
        check_text(worker_id, name="worker_id", maximum=1000)
        if ended and self._access.database is None:
            raise InvalidValue(
                "ended",
                "must be empty in a transaction of your own; end the jobs with `complete`, `fail` or `cancel` instead",
            )
        return exchange(self._access, worker_id, wanted, limit=limit, ended=ended)

    def heartbeat(self, id: int, *, claim_token: str | None = None) -> bool:
        """Record a heartbeat of a running job; return False if the job is not running or has another claim token."""
        return self._update_running(id, claim_token, {"heartbeat_at": self._access.clock()})

    def update_progress(
        self, id: int, *, done: int | None = None, total: int | None = None, claim_token: str | None = None
    ) -> bool:
        """Set `progress_done`, `progress_total` or both; return whether the job was found.

        With a `claim_token`, only a running job with this token is found.
        """
        values: dict[str, Any] = {}
        if done is not None:
            values["progress_done"] = check_integer(done, name="done", minimum=0, maximum=MAX_COUNT)
        if total is not None:
            values["progress_total"] = check_integer(total, name="total", minimum=0, maximum=MAX_COUNT)
        if claim_token is not None:
            return self._update_running(id, claim_token, values)
        return self._update(id, values)

    def update_payload(self, id: int, payload: Mapping[str, Any] | None) -> Job | None:
        """Replace the payload of a job (None clears it) and return the job, or None if it does not exist."""
        self._update(id, {"payload_json": None if payload is None else checked_payload(payload)})
        return self.get_by_id(id)

    def complete(
        self, id: int, *, claim_token: str | None = None, result: Mapping[str, Any] | None = None
    ) -> Job | None:
        """End a job as completed; if it was the last job of its step, start the next step of its task.

        Returns the job, or None if nothing changed, because the job does not exist, has ended before, or has another
        claim token.

        Raises:
            InvalidValue: the result cannot be stored.
        """
        return self.end(End(job_id=id, status=JobStatus.COMPLETED, claim_token=claim_token, result=result))

    def fail(self, id: int, error_message: str, *, claim_token: str | None = None) -> Job | None:
        """End a job as failed with a reason, which is cut at 1000 characters. Returns what `complete` returns."""
        message = str(error_message)
        return self.end(End(job_id=id, status=JobStatus.FAILED, claim_token=claim_token, error_message=message))

    def cancel(self, id: int) -> Job | None:
        """Cancel a queued or running job and return it, or None if it had ended or does not exist.

        The handler of a running job stops at the first call of `ctx.checkpoint` after a heartbeat has found the job
        canceled.
        """
        return self.end(End(job_id=id, status=JobStatus.CANCELED))

    def end(self, end: End) -> Job | None:
        """End a job; if it was the last job of its step, start the next step of its task.

        Returns what `complete` returns, and raises the same errors.
        """
        end = replace(end, result=None if end.result is None else checked_result(end.result))
        if self._access.database is not None:
            ended: Sequence[Job] = exchange(self._access, "", ended=[end]).ended
        else:
            conditions = [jobs.c.id == end.job_id]
            if end.claim_token is not None:
                conditions += [jobs.c.claim_token == end.claim_token, jobs.c.status == "running"]
            with self._access.write() as connection:
                ended = end_jobs(
                    connection,
                    *conditions,
                    status=end.status,
                    now=self._access.clock(),
                    error_message=end.error_message,
                    result=end.result,
                )
        return ended[0] if ended else None

    def cancel_by_project(
        self, project_id: int, *, except_task_id: str | None = None, except_job_id: int | None = None
    ) -> list[Job]:
        """Cancel the queued and running jobs of a project and return them; one job or one task can be left out."""
        conditions = [jobs.c.project_id == project_id]
        if except_job_id is not None:
            conditions.append(jobs.c.id != except_job_id)
        if except_task_id is not None:
            conditions.append(func.coalesce(jobs.c.task_id, "") != except_task_id)
        with self._access.write() as connection:
            ended = end_jobs(connection, *conditions, status=JobStatus.CANCELED, now=self._access.clock())
        settle_after(self._access, [job.id for job in ended])
        return ended

    def retry_later(
        self, id: int, error_message: str, *, run_after: datetime, claim_token: str | None = None
    ) -> Job | None:
        """Queue a running job again and count a failed attempt. The job starts at `run_after` at the earliest.

        Returns the job, or None if it is not running or has another claim token.

        Raises:
            InvalidValue: `run_after` is not a datetime with a time zone, or it cannot be a time in UTC.
        """
        conditions = [jobs.c.id == id]
        if claim_token is not None:
            conditions.append(jobs.c.claim_token == claim_token)
        start = checked_start(run_after)
        with self._access.write() as connection:
            given_back = give_back(
                connection, *conditions, now=self._access.clock(), run_after=start, error_message=error_message
            )
        return given_back[0] if given_back else None

    def hand_back(self, id: int, *, claim_token: str) -> Job | None:
        """Queue a claimed job again without counting an attempt, and return it.

        Returns None if the job no longer runs, or has another claim token.
        """
        with self._access.write() as connection:
            given_back = give_back(
                connection,
                jobs.c.id == id,
                jobs.c.claim_token == claim_token,
                now=self._access.clock(),
                count_attempt=False,
            )
        return given_back[0] if given_back else None

    def requeue(self, id: int) -> Job | None:
        """Queue a job again from any status, and return it, or None if it does not exist.

        Its start, end, worker, heartbeat, claim token and delay are cleared. Its failed and interrupted items become
        pending.

        If its task has ended or is at a later step, the task continues from the step of this job.

        Raises:
            ConstraintViolated: another queued or running job has the same `unique_key`.
        """
        with self._access.write() as connection:
            now = self._access.clock()
            lock_tasks_of(connection, jobs.c.id == id)
            values = {**QUEUED_ANEW, "updated_at": now}
            statement = update(jobs).where(jobs.c.id == id).values(values).returning(*jobs.columns)
            row = connection.execute(statement).mappings().one_or_none()
            if row is None:
                return None
            job = Job.from_row(row)
            reopen_items(connection, [id], now=now)
            if job.task_id is not None and job.step_index is not None:
                reopen_task(connection, job.task_id, step_index=job.step_index, now=now)
            notify(connection)
            return job

    def increment_attempts(self, id: int) -> Job | None:
        """Add one to the attempts of a job and return the job, or None if it does not exist."""
        self._update(id, {"attempts": jobs.c.attempts + 1})
        return self.get_by_id(id)

    def set_default_max_attempts(self, id: int, max_attempts: int) -> Job | None:
        """Set `max_attempts` of a job if it has no value yet; return the job, or None if it does not exist."""
        check_integer(max_attempts, name="max_attempts", minimum=1, maximum=MAX_COUNT)
        self._update(id, {"max_attempts": func.coalesce(jobs.c.max_attempts, max_attempts)})
        return self.get_by_id(id)

    def requeue_stale_running(self, stale_seconds: float) -> list[int]:
        """Queue running jobs again that had no heartbeat for `stale_seconds`, as one more attempt; return their ids.

        Raises:
            InvalidValue: `stale_seconds` is negative or too large.
        """
        stale = age(stale_seconds, name="stale_seconds")
        with self._access.write() as connection:
            now = self._access.clock()
            given_back = give_back(connection, is_silent(now, stale), now=now)
        return sorted(job.id for job in given_back)

    def update_item_status(self, item_id: int, *, status: str, message: str | None = None) -> JobItem | None:
        """Set the status and message of an item; return the item, or None if it does not exist.

        The job's `progress_done` is also updated if it equals the number of items that were done, failed or skipped so
        far. A number that `update_progress` has set stays unchanged.
        """
        with self._access.write() as connection:
            return job_items.update_item_status(
                connection, item_id, status=status, message=message, now=self._access.clock()
            )

    def _update(self, id: int, values: Mapping[str, Any]) -> bool:
        with self._access.write() as connection:
            statement = update(jobs).where(jobs.c.id == id).values(**values, updated_at=self._access.clock())
            return connection.execute(statement).rowcount == 1

    def _update_running(self, id: int, claim_token: str | None, values: Mapping[str, Any]) -> bool:
        statement = update(jobs).where(jobs.c.id == id, jobs.c.status == "running")
        if claim_token is not None:
            statement = statement.where(jobs.c.claim_token == claim_token)
        with self._access.write() as connection:
            return connection.execute(statement.values(**values, updated_at=self._access.clock())).rowcount == 1
