"""Holds on tasks, tenants and lanes: until a hold is released, no further job under it is claimed.

Running jobs continue, and queued jobs stay queued. To end jobs, cancel them. `hold_on` in `storage.lifecycle.step_jobs`
puts new jobs under a hold, and `storage.queue.exchange_statements` leaves held jobs out of a claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.database.column_types import check_text
from storage.database.engine import Access, Database
from storage.database.tables import holds, jobs
from storage.errors import InvalidValue
from storage.lifecycle.lock_order import locked_jobs
from storage.lifecycle.notifications import notify
from storage.lifecycle.state_machine import get_task
from storage.queue.lanes import LanesRepository
from storage.queue.new_tasks import existing_task
from storage.records import Record


class HoldKind(StrEnum):
    """The kinds of holds: on a task, on a tenant, or on a lane."""

    TASK = "task"
    TENANT = "tenant"
    LANE = "lane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Record):
    """A row of `holds`."""

    kind: str
    name: str
    reason: str | None
    created_at: datetime


class HoldsRepository:
    """The table `holds`, in a `Database` or inside the caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def hold(self, kind: HoldKind | str, name: str, reason: str | None = None) -> Hold:
        """Put a task, tenant or lane on hold, so that its jobs are not claimed; an existing hold gets the new reason.

        Raises:
            InvalidValue: the kind is not one of the three, or a text cannot be stored.
            UnknownTask: there is no such task.
            UnknownLane: there is no such lane.
        """
        checked = _checked_kind(kind)
        check_text(name, name="name", maximum=255)
        if reason is not None:
            check_text(reason, name="reason", maximum=1000)
        with self._access.write() as connection:
            _check_exists(connection, checked, name)
            this = (holds.c.kind == str(checked), holds.c.name == name)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(
                dialect.insert(holds)
                .values(kind=str(checked), name=name, reason=reason, created_at=self._access.clock())
                .on_conflict_do_update(index_elements=["kind", "name"], set_={"reason": reason})
            )
            if checked is not HoldKind.LANE:
                # Claims check `holds`, too. The mark in `held_by` only keeps each claim from reading all held jobs.
                free = locked_jobs(connection, *_queued_jobs_under(checked, name), jobs.c.held_by.is_(None))
                connection.execute(update(jobs).where(free).values(held_by=str(checked)))
            return Hold.from_row(connection.execute(select(holds).where(*this)).mappings().one())

    def release(self, kind: HoldKind | str, name: str) -> bool:
        """Release a hold; return False if there was no such hold. Jobs under another hold stay held.

        Raises:
            InvalidValue: the kind is not one of the three.
        """
        checked = _checked_kind(kind)
        with self._access.write() as connection:
            found = connection.execute(delete(holds).where(holds.c.kind == str(checked), holds.c.name == name)).rowcount
            if checked is not HoldKind.LANE:
                held = locked_jobs(connection, *_queued_jobs_under(checked, name), jobs.c.held_by == str(checked))
                connection.execute(update(jobs).where(held).values(held_by=_other_hold(checked)))
            notify(connection)
            return found > 0

    def get(self, kind: HoldKind | str, name: str) -> Hold | None:
        """Return the hold on a task, a tenant or a lane, or None."""
        statement = select(holds).where(holds.c.kind == str(_checked_kind(kind)), holds.c.name == name)
        with self._access.read() as connection:
            row = connection.execute(statement).mappings().one_or_none()
        return None if row is None else Hold.from_row(row)

    def list(self, kind: HoldKind | str | None = None) -> list[Hold]:
        """Return all holds, or the holds of one kind, oldest first."""
        statement = select(holds).order_by(holds.c.created_at, holds.c.kind, holds.c.name)
        if kind is not None:
            statement = statement.where(holds.c.kind == str(_checked_kind(kind)))
        with self._access.read() as connection:
            return [Hold.from_row(row) for row in connection.execute(statement).mappings()]


def _checked_kind(kind: HoldKind | str) -> HoldKind:
    try:
        return HoldKind(kind)
    except ValueError:
        raise InvalidValue("kind", f'"{kind}" cannot be held. Allowed: {", ".join(HoldKind)}.') from None


def _check_exists(connection: Connection, kind: HoldKind, name: str) -> None:
    if kind is HoldKind.LANE:
        LanesRepository(connection).get(name)
    elif kind is HoldKind.TASK:
        existing_task(get_task(connection, name), name)


def _queued_jobs_under(kind: HoldKind, name: str) -> Sequence[ColumnElement[bool]]:
    return (jobs.c.status == "queued", (jobs.c.tenant_id if kind is HoldKind.TENANT else jobs.c.task_id) == name)


def _other_hold(kind: HoldKind) -> ScalarSelect[Any]:
    """Return a subquery for the other kind, task or tenant, if the job has a hold of that kind; else NULL."""
    if kind is HoldKind.TENANT:
        other, name = HoldKind.TASK, jobs.c.task_id
    else:
        other, name = HoldKind.TENANT, jobs.c.tenant_id
    return select(holds.c.kind).where(holds.c.kind == str(other), holds.c.name == name).scalar_subquery()
