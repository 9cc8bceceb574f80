"""The calls of `JobsRepository` that read jobs and items, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain

from sqlalchemy import ColumnElement, Connection, TextClause, select, text

from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import READY, job_items, jobs
from storage.lifecycle.job_listings import DEFAULT_LIMIT, check_page, list_newest
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement
from storage.lifecycle.notifications import fresh
from storage.photo_sets import iterate_items
from storage.records import Job, JobItem

_BY_ID = JobStatement(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = :id")


class JobReading:
    """Reads jobs and items, in a `Database` or inside the caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def get_by_id(self, id: int) -> Job | None:
        """Return the job with this id, or None."""
        found = self._access.run(_BY_ID, {"id": id})
        return found[0] if found else None

    def get_many(self, ids: Sequence[int]) -> dict[int, Job]:
        """Return the jobs with these ids, by id; ids that do not exist are left out."""
        if not ids:
            return {}
        with self._access.read() as connection:
            rows = connection.execute(select(jobs).where(among(jobs.c.id, ids))).mappings()
            return {row["id"]: Job.from_row(row) for row in rows}

    def list_by_project(
        self,
        project_id: int,
        *,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
        status: str | None = None,
        type: str | None = None,
    ) -> list[Job]:
        """Return the jobs of a project, newest first."""
        filters = {"project_id": project_id, "status": status, "type": type}
        return list_newest(self._access.run, filters, limit=limit, offset=offset)

    def list_by_tenant(
        self,
        tenant_id: str,
        *,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
        status: str | None = None,
        type: str | None = None,
        scope: str | None = None,
        before: tuple[datetime, int] | None = None,
    ) -> list[Job]:
        """Return the jobs of a tenant, newest first, in all scopes unless `scope` is given.

        To get the next page, pass `(job.created_at, job.id)` of the last job as `before`. Then all pages take the same
        time, while the time for `offset` grows with each page.
        """
        filters = {"tenant_id": tenant_id, "status": status, "type": type, "scope": scope}
        return list_newest(self._access.run, filters, limit=limit, offset=offset, before=before)

    def list_ready(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        tenant_id: str | None = None,
        min_priority: int | None = None,
        max_priority: int | None = None,
        standalone: bool = False,
    ) -> list[Job]:
        """Return up to `limit` ready jobs, best first, whether or not their lane has a free slot.

        A job is ready if it is queued without a delay, its task and tenant are not on hold, and its task has reached
        its step. Jobs for which a live executor waits are left out. With `standalone`, only jobs without a task are
        returned.
        """
        check_page(limit=limit)
        alive = fresh(self._access.clock())
        is_awaited = jobs.c.heartbeat_at.between(alive["fresh_since"], alive["fresh_until"])
        conditions: list[ColumnElement[bool] | TextClause] = [text(READY), jobs.c.heartbeat_at.is_(None) | ~is_awaited]
        if tenant_id is not None:
            conditions.append(jobs.c.tenant_id == tenant_id)
        if standalone:
            conditions.append(jobs.c.task_id.is_(None))
        if min_priority is not None:
            conditions.append(jobs.c.priority >= min_priority)
        if max_priority is not None:
            conditions.append(jobs.c.priority <= max_priority)
        # `RANK` in `storage.queue.exchange_statements` is the same order.
        ranked = (jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        statement = select(jobs).where(*conditions).order_by(*ranked).limit(limit)
        with self._access.read() as connection:
            return [Job.from_row(row) for row in connection.execute(statement).mappings()]

    def list_items(self, job_id: int) -> list[JobItem]:
        """Return the items of a job in id order."""
        statement = select(job_items).where(job_items.c.job_id == job_id).order_by(job_items.c.id)
        with self._access.read() as connection:
            return [JobItem.from_row(row) for row in connection.execute(statement).mappings()]

    def iterate_items(self, job_id: int) -> Iterator[JobItem]:
        """Return an iterator of the items of a job in id order. No transaction is open between two batches."""
        return chain.from_iterable(iterate_items(self._access, job_id))

    def next_pending_item(self, job_id: int) -> JobItem | None:
        """Return the job's pending item with the lowest id, or None if no item is pending."""
        pending = select(job_items).where(job_items.c.job_id == job_id, job_items.c.status == "pending")
        with self._access.read() as connection:
            row = connection.execute(pending.order_by(job_items.c.id).limit(1)).mappings().one_or_none()
        return None if row is None else JobItem.from_row(row)
