"""The table `job_items`: checks and writes many items fast, and records their outcomes.

`flows.handlers.item_outcomes` decides when outcomes are written, and `reopen_items` in
`storage.lifecycle.state_machine` which items the next attempt works on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from storage.batches import batched
from storage.database.clock import format_timestamp
from storage.database.column_types import MAX_INTEGER, check_integer, check_text
from storage.database.driver_errors import translating_errors
from storage.database.given_values import among
from storage.database.tables import job_items, jobs, photos, projects
from storage.errors import ConstraintViolated, InvalidValue, UnknownPhoto
from storage.lifecycle.state_machine import cut
from storage.lifecycle.step_jobs import of_tenant
from storage.records import ItemStatus, JobItem
from task_definitions.wording import shown

#: The number of items that one statement writes; larger batches are not faster and take more memory.
BATCH_SIZE = 5_000

_COLUMNS = ("tenant_id", "job_id", "photo_id", "filename", "status", "message", "created_at", "updated_at")
_ITEM_STATUSES = tuple(ItemStatus)
_ALLOWED_KEYS = frozenset({"photo_id", "filename", "status", "message"})


def insert_items(
    connection: Connection, job_id: int, tenant_id: str, items: Iterable[Mapping[str, Any]], *, now: datetime
) -> int:
    """Write the items of a job in order and return their number. At most one batch of items is in memory.

    Raises:
        InvalidValue: an item is not valid (see `item_values`), or its photo id does not exist; the caller's transaction
            must then be rolled back.
        UnknownPhoto: a photo belongs to another tenant; the caller's transaction must then be rolled back.
    """
    count = 0
    # A batch is read completely before it is written, because the items may come from a query on this connection.
    for batch in batched(items, BATCH_SIZE):
        count += insert_items_of_jobs(connection, [(job_id, len(batch))], tenant_id, batch, now=now, first_index=count)
    return count


def insert_items_of_jobs(
    connection: Connection,
    sizes: Iterable[tuple[int, int]],
    tenant_id: str,
    items: Iterable[Mapping[str, Any]],
    *,
    now: datetime,
    first_index: int = 0,
) -> int:
    """Write the items of several jobs as one stream and return their number.

    `sizes` has pairs of job id and number of items. `items` must not use the connection. `first_index` is the position
    of the first item in the caller's list, for messages.

    Raises:
        InvalidValue: as in `insert_items`.
        UnknownPhoto: as in `insert_items`.
    """
    moment = now if connection.dialect.name == "postgresql" else format_timestamp(now)
    count = 0
    sizes = list(sizes)

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal count
        iterator = iter(items)
        for job_id, size in sizes:
            for item in islice(iterator, size):
                if (
                    type(item) is dict
                    and len(item) == 1
                    and type(photo_id := item.get("photo_id")) is int
                    and 0 < photo_id <= MAX_INTEGER
                ):
                    # Nearly all items have only a photo id. Checking this form here takes half the time of
                    # `item_values`.
                    yield (tenant_id, job_id, photo_id, None, "pending", None, moment, moment)
                else:
                    yield (tenant_id, job_id, *item_values(item, first_index + count), moment, moment)
                count += 1

    try:
        write_rows(connection, "job_items", _COLUMNS, rows())
    except ConstraintViolated:
        raise InvalidValue(
            "items",
            "one of the photos does not exist, or the job was removed meanwhile; nothing was written. Leave out photos "
            "that do not exist. If all photos exist, queue the job again.",
        ) from None
    _check_photos(connection, [job_id for job_id, _ in sizes], tenant_id)
    return count


def _check_photos(connection: Connection, job_ids: Sequence[int], tenant_id: str) -> None:
    foreign = (
        select(job_items.c.photo_id)
        .join(photos, photos.c.id == job_items.c.photo_id)
        .join(projects, projects.c.id == photos.c.project_id)
        .where(job_items.c.job_id.in_(job_ids), ~of_tenant(tenant_id))
    )
    first = connection.execute(foreign.order_by(job_items.c.id).limit(6)).scalars().all()
    if first:
        total = connection.execute(select(func.count()).select_from(foreign.subquery())).scalar_one()
        raise UnknownPhoto(first, total=total)


def existing_photos(connection: Connection, photo_ids: Iterable[int]) -> set[int]:
    """Return the given ids that exist. On PostgreSQL, these photos cannot be removed until the transaction ends."""
    statement = select(photos.c.id).where(among(photos.c.id, photo_ids))
    return set(connection.execute(statement.with_for_update(read=True, key_share=True)).scalars())


def write_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write many rows of simple values by the driver's fastest method: COPY, or one prepared statement."""
    names = ", ".join(columns)
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection
    with translating_errors(connection.engine), closing(driver.cursor()) as cursor:
        if connection.dialect.name == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", rows)


def update_item_status(
    connection: Connection,
    item_id: int,
    *,
    status: str,
    message: str | None,
    now: datetime,
) -> JobItem | None:
    """Set the status and message of an item, and return it, or None if it does not exist.

    A message of None removes an old message. The job's `progress_done` is also updated if it equals the number of items
    that were done, failed or skipped so far.

    Raises:
        InvalidValue: the status is not an item status.
    """
    if status not in _ITEM_STATUSES:
        raise InvalidValue("status", f'"{status}" is not an item status. Allowed: {", ".join(ItemStatus)}.')
    values: dict[str, Any] = {
        "status": str(status),
        "message": None if message is None else cut(message),
        "error_type": None,
        "updated_at": now,
    }
    if status in (ItemStatus.DONE, ItemStatus.FAILED):
        values["attempts"] = job_items.c.attempts + 1
    of_item = select(job_items.c.job_id).where(job_items.c.id == item_id).scalar_subquery()
    # The job is locked before its items are counted, so that two simultaneous updates are both counted.
    locked = select(jobs.c.id, jobs.c.progress_done).where(jobs.c.id == of_item).with_for_update()
    job = connection.execute(locked).one_or_none()
    follows = job is not None and (job.progress_done or 0) == _count_closed(connection, job.id)
    statement = update(job_items).where(job_items.c.id == item_id).values(values).returning(*job_items.columns)
    row = connection.execute(statement).mappings().one_or_none()
    if job is not None and follows:
        done = _count_closed(connection, job.id)
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(progress_done=done, updated_at=now))
    return None if row is None else JobItem.from_row(row)


def _count_closed(connection: Connection, job_id: int) -> int:
    closed = (job_items.c.job_id == job_id, job_items.c.status.not_in((ItemStatus.PENDING, ItemStatus.RUNNING)))
    return int(connection.execute(select(func.count()).where(*closed)).scalar_one())


def item_values(item: Mapping[str, Any], index: int) -> tuple[int | None, str | None, str, str | None]:
    """Check an item and return its photo_id, filename, status and message; `index` is its position in the list.

    Raises:
        InvalidValue: the item is not a mapping, has an unknown key, has neither a photo id nor a file name, or has a
            value that cannot be stored.
    """
    if type(item) is dict:
        # Nearly all items have only a photo id, or also a file name. These two forms are checked as strictly as all
        # others.
        photo_id, filename = item.get("photo_id"), item.get("filename")
        if type(photo_id) is int and 0 < photo_id <= MAX_INTEGER:
            if len(item) == 1:
                return photo_id, None, "pending", None
            if type(filename) is str and len(item) == 2 and filename.isascii() and filename and "\0" not in filename:
                return photo_id, filename, "pending", None
    try:
        unknown = item.keys() - _ALLOWED_KEYS
    except (AttributeError, TypeError):
        raise InvalidValue(f"items[{index}]", f"must be a mapping like {{'photo_id': 1}}, not {shown(item)}") from None
    if unknown:
        raise InvalidValue(
            f"items[{index}].{min(map(str, unknown))}", f"is not allowed. Allowed: {', '.join(sorted(_ALLOWED_KEYS))}."
        )
    photo_id, filename = item.get("photo_id"), item.get("filename")
    status, message = item.get("status") or "pending", item.get("message")
    if photo_id is not None:
        check_integer(photo_id, name=f"items[{index}].photo_id", minimum=1)
    if filename is not None:
        check_text(filename, name=f"items[{index}].filename")
    if message is not None:
        check_text(message, name=f"items[{index}].message")
    if photo_id is None and filename is None:
        raise InvalidValue(f"items[{index}]", "has neither a photo_id nor a filename; give one of them")
    if status not in _ITEM_STATUSES:
        raise InvalidValue(f"items[{index}].status", f'"{status}" is not allowed. Allowed: {", ".join(ItemStatus)}.')
    return photo_id, filename, str(status), message


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The outcome of one attempt at an item."""

    item_id: int
    status: ItemStatus
    message: str | None = None
    error_type: str | None = None


def record_outcomes(connection: Connection, outcomes: Sequence[ItemOutcome], *, now: datetime) -> None:
    """Write the outcomes of many items by one prepared statement."""
    if not outcomes:
        return
    connection.execute(
        _RECORD_OUTCOME,
        [
            {
                "item_id": outcome.item_id,
                "new_status": str(outcome.status),
                "new_message": None if outcome.message is None else cut(outcome.message),
                "new_error_type": outcome.error_type,
                "now": now,
                "tried": int(outcome.status != ItemStatus.SKIPPED),
            }
            for outcome in outcomes
        ],
    )


# The statement changes only open items, because it is repeated if its result was lost, and must not count an attempt
# twice.
_RECORD_OUTCOME = (
    update(job_items)
    .where(
        job_items.c.id == bindparam("item_id"), (job_items.c.status == "pending") | (job_items.c.status == "running")
    )
    .values(
        status=bindparam("new_status"),
        message=bindparam("new_message"),
        error_type=bindparam("new_error_type"),
        updated_at=bindparam("now", type_=job_items.c.updated_at.type),
        attempts=job_items.c.attempts + bindparam("tried"),
    )
)
