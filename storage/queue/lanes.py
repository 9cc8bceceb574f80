"""Lanes: ranges of priorities with a number of slots. Each running job takes a slot of its lane.

`storage.queue.exchange_statements` counts the slots in each claim. The number of jobs that one process runs is limited
by the setting `concurrency`, in `flows.process.executor`.

The migration `0002_engine` in `storage.upkeep.migrations.versions` decides which lanes and slots a new database has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, case, func, insert, select, text, update

from storage.database.column_types import MAX_COUNT, check_integer, check_text
from storage.database.engine import Access, Database
from storage.database.tables import RUNNING, holds, lanes
from storage.errors import InvalidValue, UnknownLane
from storage.lifecycle.notifications import notify
from storage.records import Lane
from task_definitions.wording import shown

#: The lowest priority of the built-in lane `priority`, for tags and work queues. Claims do not use this number: they
#: read the table `lanes`.
PRIORITY_LANE_FROM = 90

#: A subquery for a query of `lanes`: the number of running jobs of the lane.
COUNT_RUNNING_IN_LANE = f"""SELECT count(*) FROM jobs AS running WHERE running.{RUNNING}
    AND running.priority BETWEEN lanes.min_priority AND lanes.max_priority"""

_COUNT_RUNNING = text(f"SELECT count(*) FROM jobs WHERE {RUNNING} AND priority BETWEEN :min_priority AND :max_priority")


class LanesRepository:
    """The table `lanes`."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def list(self) -> Sequence[Lane]:
        """Return all lanes, highest priorities first."""
        with self._access.read() as connection:
            rows = connection.execute(select(lanes).order_by(lanes.c.max_priority.desc())).mappings()
            return [Lane.from_row(row) for row in rows]

    def get(self, name: str) -> Lane:
        """Return the lane with this name.

        Raises:
            UnknownLane: there is no such lane.
        """
        with self._access.read() as connection:
            row = connection.execute(select(lanes).where(lanes.c.name == name)).mappings().one_or_none()
        if row is None:
            known = ", ".join(lane.name for lane in self.list())
            raise UnknownLane(f"{shown(name)} is not a lane. Give one of these: {known}.")
        return Lane.from_row(row)

    def change(
        self,
        name: str,
        *,
        slots: int | None = None,
        aging_seconds: int | None = None,
        fair_tenants: bool | None = None,
    ) -> Lane:
        """Change the given settings of a lane for all later claims; 0 removes the limit of slots, or the aging.

        Running jobs keep their slots until they end.

        Raises:
            UnknownLane: there is no such lane.
            InvalidValue: a number is negative or too large.
        """
        values: dict[str, int | None] = {}
        for key, value in (("slots", slots), ("aging_seconds", aging_seconds)):
            if value is not None:
                values[key] = check_integer(value, name=key, minimum=0, maximum=MAX_COUNT) or None
        if fair_tenants is not None:
            values["fair_tenants"] = int(fair_tenants)
        self.get(name)
        with self._access.write() as connection:
            statement = update(lanes).where(lanes.c.name == name)
            connection.execute(statement.values(**values, updated_at=self._access.clock()))
            notify(connection)
        return self.get(name)

    def add(self, name: str, *, min_priority: int, max_priority: int, slots: int | None = None) -> Lane:
        """Add a lane for priorities that no lane has yet. Both bounds are inclusive. 0 or None `slots` mean no limit.

        Raises:
            InvalidValue: the range is empty or overlaps another lane, or a value cannot be stored.
            ConstraintViolated: a lane with this name exists.
        """
        check_text(name, name="lane", maximum=64)
        for key, bound in (("min_priority", min_priority), ("max_priority", max_priority)):
            check_integer(bound, name=key, minimum=-MAX_COUNT - 1, maximum=MAX_COUNT)
        if slots is not None:
            slots = check_integer(slots, name="slots", minimum=0, maximum=MAX_COUNT) or None
        if min_priority > max_priority:
            raise InvalidValue("min_priority", f"{min_priority} is above max_priority {max_priority}; exchange them")
        with self._access.write() as connection:
            if connection.dialect.name == "postgresql":
                # Without the lock, two simultaneous calls would not see each other's lane. The lock blocks no claims.
                connection.execute(text("LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE"))
            for lane in LanesRepository(connection).list():
                if lane.min_priority <= max_priority and min_priority <= lane.max_priority:
                    raise InvalidValue(
                        "priorities",
                        f"{min_priority} to {max_priority} overlaps the lane {lane.name}; give other bounds",
                    )
            connection.execute(
                insert(lanes).values(
                    name=name,
                    min_priority=min_priority,
                    max_priority=max_priority,
                    slots=slots,
                    updated_at=self._access.clock(),
                )
            )
        return self.get(name)


def lane_of(priority: int, lanes: Iterable[Lane]) -> Lane | None:
    """Return the lane that jobs of this priority belong to, or None if no lane covers the priority."""
    return next((lane for lane in lanes if lane.covers(priority)), None)


def free_slots(connection: Connection, lane: Lane) -> int:
    """Return the number of free slots of a lane; on PostgreSQL the lane is locked until the transaction ends.

    A lane on hold has no free slot. The number is negative if the lane has fewer slots than running jobs, and
    `sys.maxsize` if the lane has no limit. The lane is read again, so that a change of its slots applies from the next
    claim on.
    """
    # A second statement counts the jobs, because the snapshot of the first statement is out of date after a wait for
    # the lock.
    row = connection.execute(_LOCK_LANE, {"name": lane.name}).one_or_none()
    if row is not None and row.held:
        return 0
    slots = lane.slots if row is None else row.slots
    if slots is None:
        return sys.maxsize
    bounds = {"min_priority": lane.min_priority, "max_priority": lane.max_priority}
    return int(slots) - int(connection.execute(_COUNT_RUNNING, bounds).scalar_one())


_HELD = select(func.count()).where(holds.c.kind == "lane", holds.c.name == lanes.c.name).scalar_subquery()
_LOCK_LANE = (
    select(lanes.c.slots, case((_HELD > 0, 1), else_=0).label("held"))
    .where(lanes.c.name == text(":name"))
    .with_for_update(of=lanes)
)


def lane_name(priority: int) -> str:
    """Return the name of the built-in lane to which a priority belongs."""
    return "priority" if priority >= PRIORITY_LANE_FROM else "normal"
