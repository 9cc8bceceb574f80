"""Divides the items of a call of `JobsRepository.enqueue_with_items` among jobs (chunks) of at most 2000 items.

The payload of each job has the index of its chunk and the number of chunks. `storage.lifecycle.step_jobs` makes the
chunks of a task's steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert

from storage.database.tables import jobs
from storage.errors import InvalidValue
from storage.lifecycle import job_items
from storage.lifecycle.job_rows import insert_or_find
from storage.lifecycle.notifications import notify
from storage.lifecycle.spooled_items import ReadItems
from storage.records import Job
from task_definitions import MAX_ITEMS_PER_JOB


def insert_chunks(connection: Connection, values: Mapping[str, Any], items: ReadItems) -> Job | list[Job]:
    """Insert the items and their jobs; return the jobs in order, or the unfinished job with the same unique key.

    Args:
        connection: a connection in a transaction, which the caller must roll back if this function raises an error.
        values: the values of each job, from `job_rows.new_job_values`. The unique key applies to all jobs together and
            is stored in the first.
        items: the items; they are read once.

    Raises:
        InvalidValue: an item or a photo id in it is not valid, or the list was changed while it was read.
        UnknownPhoto: a photo belongs to another tenant.
    """
    count = len(items)
    total = -(-count // MAX_ITEMS_PER_JOB)
    rows = [
        {
            **values,
            "chunk_index": index,
            "total_chunks": total,
            "payload_json": {**(values["payload_json"] or {}), "chunk_index": index, "total_chunks": total},
            "progress_total": min(MAX_ITEMS_PER_JOB, count - index * MAX_ITEMS_PER_JOB),
            "unique_key": values["unique_key"] if index == 0 else None,
        }
        for index in range(total)
    ]
    first, is_new = insert_or_find(connection, rows[0])
    if not is_new:
        return first
    others = connection.execute(
        insert(jobs).returning(*jobs.columns, sort_by_parameter_order=True), rows[1:]
    ).mappings()
    inserted = [first, *(Job.from_row(row) for row in others)]
    sized = [(job.id, row["progress_total"]) for job, row in zip(inserted, rows, strict=True)]
    iterator = iter(items)
    written = job_items.insert_items_of_jobs(connection, sized, values["tenant_id"], iterator, now=values["created_at"])
    if written != count or next(iterator, None) is not None:
        raise InvalidValue("items", f"changed while they were read: there were {count} at first; give a fixed list")
    notify(connection)
    return inserted
