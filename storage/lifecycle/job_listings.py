"""Lists jobs in pages: all jobs, newest first, or the jobs that may be claimed, best first.

`RANK` in `storage.queue.exchange_statements` is the order of the jobs that may be claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, select, text

from storage.database.column_types import check_integer
from storage.database.driver_statement import Runs
from storage.database.tables import READY, jobs
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement
from storage.lifecycle.notifications import fresh
from storage.records import Job

#: The number of rows that a listing returns by default.
DEFAULT_LIMIT = 50


def list_newest(
    run: Runs,
    filters: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    before: tuple[datetime, int] | None = None,
) -> list[Job]:
    """Return the jobs whose columns have the values of `filters`, newest first. None in `filters` means any value.

    `before` is `(created_at, id)` of the last job of the previous page.

    Raises:
        InvalidValue: `limit` or `offset` is not a whole number, or is negative.
    """
    check_page(limit=limit, offset=offset)
    parameters = {name: value for name, value in filters.items() if value is not None}
    statement = _page(tuple(parameters), before is not None, limit, offset)
    if before is not None:
        parameters |= {"before_at": before[0], "before_id": before[1]}
    return statement.jobs(run, parameters)


def check_page(*, limit: int, offset: int = 0) -> None:
    """Raise `InvalidValue` unless `limit` and `offset` are whole numbers from 0 that both databases accept."""
    check_integer(limit, name="limit", minimum=0)
    check_integer(offset, name="offset", minimum=0)


def ready_jobs(
    *,
    now: datetime,
    limit: int,
    tenant_id: str | None,
    min_priority: int | None,
    max_priority: int | None,
    standalone: bool,
) -> Select[Any]:
    """Return a query of the queued jobs that may be claimed now, best first; see `JobsRepository.list_ready`."""
    check_page(limit=limit)
    alive = fresh(now)
    is_awaited = jobs.c.heartbeat_at.between(alive["fresh_since"], alive["fresh_until"])
    statement = (
        select(jobs)
        .where(text(READY), jobs.c.heartbeat_at.is_(None) | ~is_awaited)
        .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        .limit(limit)
    )
    if tenant_id is not None:
        statement = statement.where(jobs.c.tenant_id == tenant_id)
    if standalone:
        statement = statement.where(jobs.c.task_id.is_(None))
    if min_priority is not None:
        statement = statement.where(jobs.c.priority >= min_priority)
    if max_priority is not None:
        statement = statement.where(jobs.c.priority <= max_priority)
    return statement


@lru_cache(maxsize=256)
def _page(filters: tuple[str, ...], is_paged: bool, limit: int, offset: int) -> JobStatement:
    conditions = [f"{name} = :{name}" for name in filters]
    if is_paged:
        # The first condition limits the range of the index, the second excludes the jobs of the previous page.
        conditions += ["created_at <= :before_at", "(created_at, id) < (:before_at, :before_id)"]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return JobStatement(
        # The limits are literals, because PostgreSQL plans a statement with a bound limit again each time.
        f"SELECT {JOB_COLUMNS} FROM jobs {where} ORDER BY created_at DESC, id DESC LIMIT {limit:d} OFFSET {offset:d}"
    )
