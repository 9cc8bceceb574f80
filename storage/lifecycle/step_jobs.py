"""Creates the jobs of a step, one for each chunk, and their items, which one statement writes for all jobs.

The size of a chunk is the `chunk_size` of the step, whose default and maximum are in `task_definitions.model`.
`storage.lifecycle.enqueued_chunks` applies the maximum to standalone jobs, `storage.queue.follow_ups` to follow-up
jobs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, func, insert, literal, select, text

from storage.batches import batched
from storage.database.column_types import UtcTimestamp
from storage.database.tables import (
    IS_PENDING_DELETION,
    holds,
    job_items,
    jobs,
    photos,
    projects,
    task_items,
    task_projects,
)
from storage.default_tenant import DEFAULT_TENANT
from storage.lifecycle.notifications import notify
from storage.lifecycle.pinned_definition import PinnedStep
from storage.records import Task

#: The number of jobs that one statement writes. Each has a copy of the task's payload, which may be one mebibyte large.
JOBS_PER_BATCH = 100


def insert_step_jobs(connection: Connection, task: Task, step: PinnedStep, *, now: datetime) -> int:
    """Insert the queued jobs of a step and their items, and return the number of jobs.

    A step with the unit `items` gets a job for each chunk of the task's items. If the task was started without items,
    the photos of its projects are the items. If there are no items, the step gets one empty job, so that it has a row
    in `jobs`. A step with another unit gets one job.
    """
    notify(connection)
    if step.unit != "items":
        _insert_jobs(connection, task, step, chunks=1, now=now)
        return 1
    if task.item_count is None:
        found = _photos_of_projects(task, step)
        count = _keep_photos(connection, found)
        source = found.subquery("source")
        numbered = select(
            source.c.photo_id,
            source.c.filename,
            (func.row_number().over(order_by=source.c.photo_id) - 1).label("position"),
        )
    else:
        count = task.item_count
        if connection.dialect.name == "postgresql":
            of_items = select(photos.c.id).join(task_items, task_items.c.photo_id == photos.c.id)
            _keep_photos(connection, of_items.where(task_items.c.task_id == task.id))
        numbered = _items_of_task(task)
    size = step.definition.chunk_size
    chunks = max(1, -(-count // size))
    _insert_jobs(connection, task, step, chunks=chunks, now=now)
    _insert_items(connection, task, step, numbered, chunks=chunks, now=now)
    return chunks


def target_projects(task: Task) -> Select[Any]:
    """Return a query of the ids of a task's projects: its own, those of its items, or its tenant's active ones."""
    if task.scope == "project":
        return select(projects.c.id).where(projects.c.id == task.project_id)
    if task.scope == "photo_set":
        return select(task_projects.c.project_id.label("id")).where(task_projects.c.task_id == task.id)
    return select(projects.c.id).where(of_tenant(task.tenant_id), is_active())


def of_tenant(tenant_id: str) -> Any:
    """Return the condition that a row of `projects` belongs to the tenant."""
    return func.coalesce(projects.c.tenant_id, DEFAULT_TENANT) == tenant_id


def is_active() -> Any:
    """Return the condition that a row of `projects` is not archived."""
    return func.coalesce(projects.c.status, "active") != "canceled"


def job_payload(task: Task, *, chunk_index: int, total_chunks: int) -> dict[str, Any]:
    """Return the `payload_json` of a job: the payload of its task, the task's id, type and source, and the chunk."""
    return {
        **task.payload,
        "task_id": task.id,
        "task_type": task.type,
        "source": task.source,
        "chunk_index": chunk_index,
        "total_chunks": total_chunks,
    }


def new_task_job(
    task: Task, *, type: str, priority: int, step_index: int, held_by: str | None, now: datetime
) -> dict[str, Any]:
    """Return the values that all new jobs of a step of a task have in common."""
    return {
        "tenant_id": task.tenant_id,
        "project_id": task.project_id,
        "type": type,
        "status": "queued",
        "scope": task.scope,
        "priority": priority,
        "created_at": now,
        "updated_at": now,
        "progress_done": 0,
        "attempts": 0,
        "task_id": task.id,
        "task_type": task.type,
        "step_index": step_index,
        "flow_run_id": task.flow_run_id,
        "held_by": held_by,
    }


def hold_on(connection: Connection, *, tenant_id: str, task_id: str | None) -> str | None:
    """Return the kind of the hold that applies to a new job of this tenant and task, or None."""
    return connection.execute(_select_hold(tenant_id, task_id)).scalar_one_or_none()


def _select_hold(tenant_id: Any, task_id: Any) -> Select[Any]:
    on_tenant = (holds.c.kind == "tenant") & (holds.c.name == tenant_id)
    on_task = (holds.c.kind == "task") & (holds.c.name == task_id)
    # On PostgreSQL, the shared lock makes a simultaneous release wait, so that the release sees the job.
    return select(holds.c.kind).where(on_tenant | on_task).limit(1).with_for_update(read=True)


#: A subquery for the kind of the hold on the row of `jobs` that a statement changes.
HOLD_OF_JOB = _select_hold(jobs.c.tenant_id, jobs.c.task_id).correlate(jobs).scalar_subquery()


def _insert_jobs(connection: Connection, task: Task, step: PinnedStep, *, chunks: int, now: datetime) -> None:
    held_by = hold_on(connection, tenant_id=task.tenant_id, task_id=task.id)
    common = new_task_job(
        task, type=step.type, priority=step.definition.priority, step_index=step.index, held_by=held_by, now=now
    )
    common |= {"max_attempts": step.definition.max_attempts, "total_chunks": chunks}
    insertion = insert(jobs).values(common)
    for batch in batched(range(chunks), JOBS_PER_BATCH):
        of_chunks = [
            {"chunk_index": chunk, "payload_json": job_payload(task, chunk_index=chunk, total_chunks=chunks)}
            for chunk in batch
        ]
        connection.execute(insertion, of_chunks)


def _insert_items(
    connection: Connection, task: Task, step: PinnedStep, numbered: Select[Any], *, chunks: int, now: datetime
) -> None:
    source = numbered.subquery("numbered")
    chunk = source.c.position // step.definition.chunk_size
    statement = (
        select(
            literal(task.tenant_id),
            jobs.c.id,
            source.c.photo_id,
            source.c.filename,
            literal("pending"),
            bindparam("now", now, type_=UtcTimestamp),
            bindparam("now", now, type_=UtcTimestamp),
            literal(0),
        )
        .select_from(source)
        .join(
            jobs,
            (jobs.c.task_id == task.id)
            & (jobs.c.step_index == step.index)
            # If photos were added after the count of jobs, the last job has more items, so that each photo has a job.
            & (jobs.c.chunk_index == case((chunk < chunks, chunk), else_=chunks - 1)),
        )
        .order_by(source.c.position)
    )
    columns = ["tenant_id", "job_id", "photo_id", "filename", "status", "created_at", "updated_at", "attempts"]
    connection.execute(insert(job_items).from_select(columns, statement))
    connection.execute(_COUNT_ITEMS, {"task_id": task.id, "step_index": step.index})


_COUNT_ITEMS = text("""
    UPDATE jobs SET progress_total = (SELECT count(*) FROM job_items WHERE job_items.job_id = jobs.id)
    WHERE task_id = :task_id AND step_index = :step_index
""")


def _keep_photos(connection: Connection, found: Select[Any]) -> int:
    """Return the number of photos that a query finds.

    On PostgreSQL, these photos cannot be removed until the transaction ends. Without this, the removal of a photo while
    the items are written would make the statement fail.
    """
    kept = found.with_for_update(read=True, key_share=True, of=photos).subquery("kept")
    return int(connection.execute(select(func.count()).select_from(kept)).scalar_one())


def _items_of_task(task: Task) -> Select[Any]:
    # A photo that an earlier step removed has no row in `photos`, so it is no longer an item.
    return (
        select(task_items.c.photo_id, func.coalesce(task_items.c.filename, photos.c.filename).label("filename"))
        .add_columns(task_items.c.position)
        .select_from(task_items.outerjoin(photos, photos.c.id == task_items.c.photo_id))
        .where(
            task_items.c.task_id == task.id,
            task_items.c.photo_id.is_(None) | photos.c.id.is_not(None),
        )
    )


def _photos_of_projects(task: Task, step: PinnedStep) -> Select[Any]:
    statement = select(photos.c.id.label("photo_id"), photos.c.filename).where(
        photos.c.project_id.in_(target_projects(task))
    )
    if step.default_items == "pending_deletions":
        statement = statement.where(IS_PENDING_DELETION)
    return statement
