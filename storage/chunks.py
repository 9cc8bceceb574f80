"""Many items as many jobs: each gets at most 2000 of them, and its payload says which chunk it is and of how many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, update

from storage import job_items
from storage.errors import InvalidValue
from storage.job_rows import insert_job
from storage.notifications import notify
from storage.records import Job
from storage.tables import jobs
from task_definitions import MAX_ITEMS_PER_JOB


def insert_chunks(
    connection: Connection, values: Mapping[str, Any], items: Iterator[Mapping[str, Any]], *, count: int | None
) -> list[Job]:
    """Write the items and the jobs that hold them, in order; returns the jobs.

    Args:
        connection: in a transaction, which must be rolled back where this raises.
        values: of each job, as `job_rows.new_job_values` gives them.
        items: read once and never held whole.
        count: how many items there are, if they lie in memory; None where reading them tells, and may take queries.

    Raises:
        InvalidValue: an item cannot be stored, or there are not `count` of them.
    """
    if count is None or values["unique_key"] is not None:
        return _insert_as_they_come(connection, values, items)
    total = -(-count // MAX_ITEMS_PER_JOB)
    sizes = [min(MAX_ITEMS_PER_JOB, count - index * MAX_ITEMS_PER_JOB) for index in range(total)]
    rows = connection.execute(
        insert(jobs).returning(*jobs.columns, sort_by_parameter_order=True),
        [{**values, **_numbered(values, index, total), "progress_total": size} for index, size in enumerate(sizes)],
    )
    inserted = [Job.from_row(row) for row in rows.mappings()]
    sized = zip([job.id for job in inserted], sizes, strict=True)
    written = job_items.insert_items_of_jobs(connection, sized, values["tenant_id"], items, now=values["created_at"])
    if written != count or next(items, None) is not None:
        raise InvalidValue("items", f"changed while they were read: there are not {count} of them any more")
    notify(connection)
    return inserted


def _insert_as_they_come(
    connection: Connection, values: Mapping[str, Any], items: Iterator[Mapping[str, Any]]
) -> list[Job]:
    chunks: list[tuple[int, int]] = []
    key = values["unique_key"]
    while batch := list(islice(items, MAX_ITEMS_PER_JOB)):
        # The key stands for the whole batch of items, and may stand in one unfinished row alone.
        job = insert_job(connection, {**values, "unique_key": key if not chunks else None})
        written = job_items.insert_items(connection, job.id, values["tenant_id"], batch, now=values["created_at"])
        chunks.append((job.id, written))
    numbered: list[Job] = []
    # How many chunks there are is known only when the items, which may be a generator, have been read.
    for index, (job_id, size) in enumerate(chunks):
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(**_numbered(values, index, len(chunks)), progress_total=size)
            .returning(*jobs.columns)
        )
        numbered.append(Job.from_row(connection.execute(statement).mappings().one()))
    return numbered


def _numbered(values: Mapping[str, Any], index: int, total: int) -> dict[str, Any]:
    payload = {**(values["payload_json"] or {}), "chunk_index": index, "total_chunks": total}
    return {"chunk_index": index, "total_chunks": total, "payload_json": payload}
