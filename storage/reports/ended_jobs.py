"""Reads ended jobs in the order of their ends, in batches, so that a caller can count each job exactly once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select

from storage.database.tables import jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the order in which jobs end."""

    finished_at: datetime
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """The end of a job.

    `started_at` is None if the job never started. A time is None if another program wrote a text that is not a time.
    """

    id: int
    type: str
    priority: int
    status: str
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime

    @property
    def place(self) -> Place:
        """The place after this job, from which the next call continues."""
        return Place(finished_at=self.finished_at, id=self.id)


def ended_jobs(connection: Connection, *, after: Place, before: datetime, limit: int) -> Sequence[EndedJob]:
    """Return the jobs that ended after the place `after` and before the time `before`, in the order of their ends.

    `before` must be so far in the past that no open transaction can still write an earlier end. The next call continues
    from the place of the last job. A job is left out if another program wrote a text that is not a time as its end.
    """
    ended = jobs.c.finished_at
    statement = (
        select(*(jobs.c[field.name] for field in fields(EndedJob)))
        .where(
            # The index has only `finished_at`. The first condition makes the database use the index.
            ended >= after.finished_at,
            ended < before,
            or_(ended > after.finished_at, and_(ended == after.finished_at, jobs.c.id > after.id)),
        )
        .order_by(ended, jobs.c.id)
        .limit(limit)
    )
    rows = connection.execute(statement).mappings()
    return [EndedJob(**row) for row in rows if row["finished_at"] is not None]
