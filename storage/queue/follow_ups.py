"""Follow-up jobs, which handlers request while they work: which jobs get the photos, and when these jobs run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from storage.batches import batched
from storage.database.column_types import check_integer, check_text
from storage.database.tables import job_items as job_items_table
from storage.database.tables import jobs
from storage.lifecycle import job_items, state_machine
from storage.lifecycle.job_rows import checked_payload, insert_job
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.lifecycle.step_jobs import hold_on, new_task_job
from storage.records import Task
from task_definitions import MAX_ITEMS_PER_JOB, Scope
from task_definitions.model import MAX_PRIORITY


def add_follow_up(
    connection: Connection,
    task: Task,
    *,
    type: str,
    priority: int,
    photo_ids: Iterable[int],
    payload: Mapping[str, Any],
    now: datetime,
) -> list[int]:
    """Add photos to follow-up jobs of a locked task; see `TasksRepository.add_follow_up`."""
    check_text(type, name="type", maximum=255)
    check_integer(priority, name="priority", minimum=0, maximum=MAX_PRIORITY)
    index = PinnedDefinition.from_json(task.definition_json).follow_up_index
    document = {
        **dict(sorted(checked_payload(payload).items())),
        "task_id": task.id,
        "task_type": task.type,
        "source": task.source,
    }
    follow_ups: tuple[ColumnElement[bool], ...] = (
        jobs.c.task_id == task.id,
        jobs.c.step_index == index,
        jobs.c.type == type,
        jobs.c.priority == priority,
        jobs.c.payload_json == document,
    )
    known_in = follow_ups
    held_by = hold_on(connection, tenant_id=task.tenant_id, task_id=task.id)
    if task.step_index < index:
        # While the task's steps still run, follow-up jobs that have ended are from before a retry of the task, so their
        # photos are added again.
        known_in = (*follow_ups, jobs.c.status.in_(state_machine.UNFINISHED))
        held_by = state_machine.HELD_BY_STEPS
    new = new_task_job(task, type=type, priority=priority, step_index=index, held_by=held_by, now=now)
    new |= {"scope": str(Scope.PHOTO_SET), "payload_json": document, "progress_total": 0}
    known = select(job_items_table.c.photo_id).join(jobs, jobs.c.id == job_items_table.c.job_id).where(*known_in)
    touched: set[int] = set()
    for batch in batched(photo_ids, MAX_ITEMS_PER_JOB):
        processed = set(connection.execute(known.where(job_items_table.c.photo_id.in_(batch))).scalars())
        fresh = [photo_id for photo_id in dict.fromkeys(batch) if photo_id not in processed]
        existing = job_items.existing_photos(connection, fresh)
        remaining = [{"photo_id": photo_id} for photo_id in fresh if photo_id in existing]
        while remaining:
            found = _open_follow_up(connection, *follow_ups)
            job_id, room = found or (insert_job(connection, new).id, MAX_ITEMS_PER_JOB)
            added, remaining = remaining[:room], remaining[room:]
            job_items.insert_items(connection, job_id, task.tenant_id, added, now=now)
            total = func.coalesce(jobs.c.progress_total, 0) + len(added)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(progress_total=total, updated_at=now))
            touched.add(job_id)
    return sorted(touched)


def _open_follow_up(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[int, int] | None:
    """Return the id of the last queued job that has room for more photos, and how many photos still fit."""
    statement = (
        select(jobs.c.id, jobs.c.progress_total)
        .where(*conditions, jobs.c.status == "queued", jobs.c.progress_total < MAX_ITEMS_PER_JOB)
        .order_by(jobs.c.id.desc())
        .limit(1)
        .with_for_update()
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else (row.id, MAX_ITEMS_PER_JOB - row.progress_total)
