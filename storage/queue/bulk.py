"""Cancels or retries all jobs that match a filter, in batches. `JobFilter` decides which jobs match.

`reopen_jobs` in `storage.lifecycle.state_machine` decides where the tasks of retried jobs continue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, select

from storage.batches import pages
from storage.database.clock import age
from storage.database.column_types import check_integer
from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import jobs
from storage.errors import InvalidValue
from storage.lifecycle.state_machine import RETRIED, UNFINISHED, end_jobs, reopen_jobs
from storage.queue.exchange import settle_after
from storage.records import Job, JobStatus

#: The maximum number of jobs that one transaction changes.
BATCH_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Selects jobs that match all given criteria; at least one must be given. A job's age begins at its creation."""

    tenant_id: str | None = None
    project_id: int | None = None
    type: str | None = None
    status: str | None = None
    scope: str | None = None
    task_id: str | None = None
    ids: tuple[int, ...] | None = None
    older_than_seconds: float | None = None

    def conditions(self, database: Database) -> list[ColumnElement[bool]]:
        """Return the filter as SQL conditions on `jobs`.

        Raises:
            InvalidValue: no criterion is given, the status does not exist, an id is not a whole number, or the age is
                negative or too large.
        """
        columns = ("tenant_id", "project_id", "type", "status", "scope", "task_id")
        given = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        if not given and self.ids is None and self.older_than_seconds is None:
            raise InvalidValue(
                "filter", f"is empty; give at least one of {', '.join(columns)}, ids, older_than_seconds"
            )
        if self.status is not None and self.status not in tuple(JobStatus):
            raise InvalidValue("status", f'"{self.status}" is not a job status. Allowed: {", ".join(JobStatus)}.')
        if self.project_id is not None:
            check_integer(self.project_id, name="project_id")
        conditions: list[ColumnElement[bool]] = [jobs.c[name] == value for name, value in given.items()]
        if self.ids is not None:
            conditions.append(among(jobs.c.id, [check_integer(one, name="ids") for one in self.ids]))
        if self.older_than_seconds is not None:
            older = age(self.older_than_seconds, name="older_than_seconds")
            conditions.append(jobs.c.created_at < database.clock() - older)
        return conditions


def cancel_jobs(database: Database, selected: JobFilter, *, batch_size: int = BATCH_SIZE) -> int:
    """Cancel the queued and running jobs that the filter selects, and return their number.

    The task of a canceled job ends as canceled when the other jobs of the canceled job's step have ended.

    Raises:
        InvalidValue: the filter has no criterion or an impossible value.
    """
    return _in_batches(database, selected, UNFINISHED, partial(end_jobs, status=JobStatus.CANCELED), batch_size)


def retry_jobs(database: Database, selected: JobFilter, *, batch_size: int = BATCH_SIZE) -> int:
    """Queue again the failed and canceled jobs that the filter selects, and return their number.

    Their attempts are reset. Their tasks continue from the first step that has a retried job. A job stays unchanged if
    an unfinished job, or a later job that the filter selects, has the same `unique_key`. Items that are done stay done.

    Raises:
        InvalidValue: the filter has no criterion or an impossible value.
    """
    return _in_batches(database, selected, RETRIED, reopen_jobs, batch_size)


def _in_batches(
    database: Database,
    selected: JobFilter,
    statuses: Sequence[JobStatus],
    change: Callable[..., list[Job]],
    batch_size: int,
) -> int:
    check_integer(batch_size, name="batch_size", minimum=1, maximum=10_000)
    conditions: list[Any] = [jobs.c.status.in_(statuses), *selected.conditions(database)]
    changed = 0
    # The search locks no row, so `change` checks the status of each job again. Later jobs come first: of several jobs
    # with the same unique key, a retry queues the latest.
    found = select(jobs.c.id).where(*conditions)
    for page in pages(database.connect, found, jobs.c.id, batch_size, descending=True):
        with database.begin() as connection:
            done = change(connection, jobs.c.id.in_([row["id"] for row in page]), now=database.clock())
        settle_after(Access(database), [job.id for job in done])
        changed += len(done)
    return changed
