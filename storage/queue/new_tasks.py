"""Writes a new task: checks its values, and inserts the task, its items and the jobs of its first step.

Projects and photos that do not exist or belong to another tenant are refused here, photos by `_check_photos`.
`_check_alone` refuses an exclusive task while another task of the same definition, tenant and project is unfinished.
`flows.orchestration.compiler` decides which flow runs are exclusive: those of a schedule or of a global definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.batches import batched
from storage.database.column_types import check_integer, check_tenant_id, check_text
from storage.database.engine import Access
from storage.database.tables import jobs, photos, projects, task_items, task_projects, tasks
from storage.errors import AlreadyRunning, InvalidValue, TaskConflict, UnknownPhoto, UnknownTask
from storage.history.undo_entries import UNDO, UNDO_STEP
from storage.lifecycle import job_items, state_machine
from storage.lifecycle.job_rows import check_project_exists, checked_payload
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.lifecycle.spooled_items import ReadItems, read_items
from storage.lifecycle.step_jobs import insert_step_jobs, of_tenant
from storage.photos.photo_selection import PhotoSelection
from storage.records import Task, TaskStatus
from task_definitions import Scope
from task_definitions.wording import shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """The values of a task to start.

    Attributes:
        items: the photos of a `photo_set`, as mappings with `photo_id`, `filename` or both; None if the task has no
            items of its own.
        selection: selects the photos by criteria; given instead of `items`.
        is_exclusive: whether the start is refused while a task of the same type, tenant and project is unfinished.
    """

    id: str
    tenant_id: str
    definition: PinnedDefinition
    scope: Scope
    project_id: int | None = None
    items: Iterable[Mapping[str, Any]] | None = None
    selection: PhotoSelection | None = None
    payload: Mapping[str, Any] | None = None
    source: str = "user"
    flow_run_id: str | None = None
    is_exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTask:
    """A started task, and the ids of the jobs of its first step in chunk order."""

    task: Task
    job_ids: tuple[int, ...]


def write_task(access: Access, new: NewTask) -> WrittenTask:
    """Write a task and the jobs of its first step; see `TasksRepository.start`."""
    check_text(new.id, name="task_id", maximum=255)
    check_tenant_id(new.tenant_id)
    check_text(new.source, name="source", maximum=255)
    if new.items is not None and new.selection is not None:
        raise InvalidValue("items", "cannot be given together with a selection; give only items or only a selection")
    payload = checked_payload(new.payload or {})
    with read_items(() if new.items is None else new.items) as items, access.write() as connection:
        existing = state_machine.get_task(connection, new.id)
        if existing is not None:
            return _started(connection, task_of_tenant(existing, new.tenant_id))
        if any(step.type == UNDO_STEP for step in new.definition.steps):
            _check_undone(connection, payload, new.tenant_id)
        now = access.clock()
        if new.is_exclusive:
            _check_alone(connection, new)
        if new.project_id is not None:
            check_integer(new.project_id, name="project_id", minimum=1)
            check_project_exists(connection, new.project_id, tenant_id=new.tenant_id)
        definition = new.definition.definition
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        inserted = connection.execute(
            dialect.insert(tasks)
            .values(
                id=new.id,
                tenant_id=new.tenant_id,
                type=definition.name,
                label=definition.label,
                scope=str(new.scope),
                project_id=new.project_id,
                status=str(TaskStatus.QUEUED),
                source=new.source,
                priority=definition.priority,
                step_index=0,
                definition_json=new.definition.to_json(),
                payload_json=payload,
                flow_run_id=new.flow_run_id,
                created_at=now,
                updated_at=now,
            )
            .on_conflict_do_nothing(index_elements=["id"])
            .returning(tasks.c.id)
        )
        if inserted.first() is not None:
            _write_items(connection, new, items)
            task = existing_task(state_machine.get_task(connection, new.id), new.id)
            insert_step_jobs(connection, task, new.definition.steps[0], now=now)
        # If no row was written, another caller has started the task in the meantime.
        written = existing_task(state_machine.get_task(connection, new.id), new.id)
        return _started(connection, task_of_tenant(written, new.tenant_id))


def existing_task(task: Task | None, task_id: str) -> Task:
    """Return the task, or raise `UnknownTask` if it is None."""
    if task is None:
        raise unknown_task(task_id)
    return task


def unknown_task(task_id: str) -> UnknownTask:
    """Return the error for a task that does not exist."""
    return UnknownTask(f"task {shortened(task_id)} does not exist. `photojobs status` lists the latest tasks.")


def task_of_tenant(task: Task, tenant_id: str) -> Task:
    """Return the task, or raise `UnknownTask` if it belongs to another tenant."""
    # The error does not reveal that the task exists.
    return existing_task(task if task.tenant_id == tenant_id else None, task.id)


def _check_alone(connection: Connection, new: NewTask) -> None:
    definition = new.definition.definition
    if connection.dialect.name == "postgresql":
        # Without the lock, two simultaneous starts would not see each other's row.
        key = f"photojobs:{definition.name}:{new.tenant_id}:{new.project_id}"
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
    statement = select(tasks.c.id).where(
        # While this transaction waited for the lock, another process may have started the same task.
        tasks.c.id != new.id,
        tasks.c.type == definition.name,
        tasks.c.status.in_(("queued", "running")),
        tasks.c.tenant_id == new.tenant_id,
        tasks.c.project_id.is_not_distinct_from(new.project_id),
    )
    other = connection.execute(statement.limit(1)).scalar_one_or_none()
    if other is not None:
        raise AlreadyRunning(
            f"skipped: {definition.label} is running already for tenant {new.tenant_id}, as task {other}; wait for its "
            "end, or cancel it"
        )


def _started(connection: Connection, task: Task) -> WrittenTask:
    first_step = select(jobs.c.id).where(jobs.c.task_id == task.id, jobs.c.step_index == 0)
    ids = connection.execute(first_step.order_by(jobs.c.chunk_index, jobs.c.id)).scalars()
    return WrittenTask(task=task, job_ids=tuple(ids))


def _check_undone(connection: Connection, payload: Mapping[str, Any], tenant_id: str) -> None:
    # `flows.undoing.task_to_undo` makes the same check when the undo runs.
    task_id = payload.get(UNDO)
    if not isinstance(task_id, str) or not task_id:
        raise InvalidValue("payload", f'names no task to undo; give the id of a task, as in {{"{UNDO}": "<task id>"}}')
    task = task_of_tenant(existing_task(state_machine.get_task(connection, task_id), task_id), tenant_id)
    if not task.is_final:
        raise TaskConflict(f"task {task_id} is {task.status}. Cancel it or wait for its end, then undo it.")


def _write_items(connection: Connection, new: NewTask, items: ReadItems) -> None:
    if new.selection is not None:
        checked = new.selection.checked(connection, tenant_id=new.tenant_id)
        source = checked.statement(new.tenant_id).subquery("selected")
        position = func.row_number().over(order_by=source.c.photo_id) - 1
        connection.execute(
            insert(task_items).from_select(
                ["task_id", "position", "photo_id", "filename"],
                select(literal(new.id), position, source.c.photo_id, source.c.filename),
            )
        )
    elif new.items is not None:
        written = 0
        for batch in batched(items, job_items.BATCH_SIZE):
            rows = [
                (new.id, written + index, *job_items.item_values(item, written + index)[:2])
                for index, item in enumerate(batch)
            ]
            job_items.write_rows(connection, "task_items", ("task_id", "position", "photo_id", "filename"), rows)
            written += len(rows)
        _check_photos(connection, new)
    elif new.scope is not Scope.PHOTO_SET:
        return
    count = select(func.count()).select_from(task_items).where(task_items.c.task_id == new.id).scalar_subquery()
    connection.execute(update(tasks).where(tasks.c.id == new.id).values(item_count=count))
    _write_projects(connection, new)


def _check_photos(connection: Connection, new: NewTask) -> None:
    # Nested queries make PostgreSQL look up each photo by its id. With statistics from before the table was filled, it
    # would join all photos with all items, which takes hours for a large photo set.
    is_own = select(of_tenant(new.tenant_id)).where(projects.c.id == photos.c.project_id).scalar_subquery()
    own = select(photos.c.id).where(photos.c.id == task_items.c.photo_id, is_own).scalar_subquery()
    of_task = (task_items.c.task_id == new.id, task_items.c.photo_id.is_not(None))
    foreign = select(task_items.c.photo_id).where(*of_task, own.is_(None))
    first = connection.execute(foreign.order_by(task_items.c.position).limit(6)).scalars().all()
    if first:
        total = connection.execute(select(func.count()).select_from(foreign.subquery())).scalar_one()
        raise UnknownPhoto(first, total=total)


def _write_projects(connection: Connection, new: NewTask) -> None:
    # The projects are stored at the start, because a step may move photos out of a project of the task.
    of_items = (
        select(literal(new.id), photos.c.project_id)
        .join(task_items, task_items.c.photo_id == photos.c.id)
        .where(task_items.c.task_id == new.id)
    )
    own = select(literal(new.id), projects.c.id).where(projects.c.id == new.project_id)
    connection.execute(insert(task_projects).from_select(["task_id", "project_id"], of_items.union(own)))
