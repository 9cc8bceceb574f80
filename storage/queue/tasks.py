"""The table `tasks`: starting a run of a definition, following it, canceling it and running parts of it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.database.column_types import check_integer, check_tenant_id, check_text
from storage.database.driver_statement import DriverStatement
from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import UNFINISHED_TASK, jobs, photos, projects, task_items, task_projects, tasks
from storage.database.tables import job_items as job_items_table
from storage.errors import AlreadyRunning, InvalidValue, TaskConflict, UnknownPhoto, UnknownProject, UnknownTask
from storage.history.undo_entries import UNDO, UNDO_STEP
from storage.lifecycle import job_items, state_machine
from storage.lifecycle.job_listings import check_page
from storage.lifecycle.job_rows import checked_payload, insert_job
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.lifecycle.spooled_items import SpooledItems
from storage.lifecycle.step_jobs import hold_on, insert_step_jobs, of_tenant
from storage.photos.photo_selection import PhotoSelection
from storage.records import Job, Task, TaskStatus
from task_definitions import MAX_ITEMS_PER_JOB, Scope

_ENDED_WITH = DriverStatement(
    """
    SELECT 1 FROM tasks WHERE tasks.id = :task_id AND tasks.finished_at = :finished_at AND :id = (
        SELECT max(jobs.id) FROM jobs WHERE jobs.task_id = :task_id AND jobs.finished_at = :finished_at
            AND jobs.status IN ('completed', 'failed'))""",
    is_planned_once=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a task is started with.

    Attributes:
        items: the photos of a `photo_set`, as mappings with `photo_id`, `filename` or both; None where the task has no
            items of its own.
        selection: in place of `items`: which photos.
        is_exclusive: refuse to start while a task of the same type, tenant and project is unfinished.
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
    """A task that was started, and the ids of the jobs of its first step in chunk order."""

    task: Task
    job_ids: tuple[int, ...]


class TasksRepository:
    """Tasks, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def start(self, new: NewTask) -> Task:
        """Write a task and the jobs of its first step, in one transaction; with the id of an existing task, return it.

        Its items are read to their end before the transaction begins.

        Raises:
            UnknownProject: the project does not exist, is another tenant's, or is archived.
            UnknownPhoto: an item names a photo that does not exist or is another tenant's.
            UnknownTask: the id is that of another tenant's task, or the task to be undone is none of the tenant's.
            TaskConflict: the task to be undone has not ended.
            InvalidValue: a value cannot be stored.
            AlreadyRunning: the task is exclusive, and another one of its kind is unfinished.
        """
        return self.start_with_jobs(new).task

    def start_with_jobs(self, new: NewTask) -> WrittenTask:
        """What `start` does, with the ids of the first step's jobs, read in the same transaction."""
        check_text(new.id, name="task_id", maximum=255)
        check_tenant_id(new.tenant_id)
        check_text(new.source, name="source", maximum=255)
        if new.items is not None and new.selection is not None:
            raise InvalidValue("items", "give either items or a selection, not both")
        payload = checked_payload(new.payload or {})
        with SpooledItems(() if new.items is None else new.items) as items, self._access.write() as connection:
            existing = state_machine.get_task(connection, new.id)
            if existing is not None:
                return _started(connection, _of_tenant(existing, new.tenant_id))
            if any(step.type == UNDO_STEP for step in new.definition.steps):
                _check_undone(connection, payload, new.tenant_id)
            now = self._access.clock()
            if new.is_exclusive:
                _check_alone(connection, new)
            if new.project_id is not None:
                check_integer(new.project_id, name="project_id", minimum=1)
                _check_project(connection, new.project_id, new.tenant_id)
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
                task = _existing(state_machine.get_task(connection, new.id), new.id)
                insert_step_jobs(connection, task, new.definition.steps[0], now=now)
            # Otherwise another caller has started it meanwhile.
            return _started(connection, _existing(state_machine.get_task(connection, new.id), new.id))

    def get_by_id(self, task_id: str) -> Task | None:
        """The task of that id, or None."""
        with self._access.read() as connection:
            return state_machine.get_task(connection, task_id)

    def get(self, task_id: str, *, tenant_id: str | None = None) -> Task:
        """The task of that id, if it is the tenant's.

        Raises:
            UnknownTask: there is none, or it is another tenant's.
        """
        task = _existing(self.get_by_id(task_id), task_id)
        return task if tenant_id is None else _of_tenant(task, tenant_id)

    def whole_id(self, beginning: str, *, tenant_id: str | None = None) -> str:
        """The id of the one task whose id begins so.

        Raises:
            UnknownTask: there is none, or it is another tenant's.
            InvalidValue: several ids begin so.
        """
        statement = select(tasks.c.id).where(tasks.c.id.startswith(beginning, autoescape=True)).order_by(tasks.c.id)
        if tenant_id is not None:
            statement = statement.where(tasks.c.tenant_id == tenant_id)
        with self._access.read() as connection:
            if beginning and connection.execute(select(tasks.c.id).where(tasks.c.id == beginning)).first() is not None:
                return beginning
            found = list(connection.execute(statement.limit(3)).scalars()) if beginning else []
        if len(found) > 1:
            several = ", ".join(found[:2]) + (" and others" if len(found) > 2 else "")
            raise InvalidValue("task", f'"{beginning}" is the beginning of {several}; give more of the id')
        if not found:
            raise _unknown(beginning)
        return str(found[0])

    def has_ended_with(self, job: Job) -> bool:
        """Whether the task of a job ended with this end of the job; true of one job alone, cheaper than the row."""
        # The task ends at the moment of the ends that were handed in last; of several, one job stands for all.
        ended = {"task_id": job.task_id, "finished_at": job.finished_at, "id": job.id}
        return bool(self._access.look(_ENDED_WITH, ended))

    def list_newest(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        tenant_id: str | None = None,
        status: str | None = None,
        type: str | None = None,
    ) -> list[Task]:
        """Tasks, newest first.

        Raises:
            InvalidValue: `limit` or `offset` is not a whole number from 0.
        """
        check_page(limit=limit, offset=offset)
        statement = select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit).offset(offset)
        for name, value in {"tenant_id": tenant_id, "status": status, "type": type}.items():
            if value is not None:
                statement = statement.where(tasks.c[name] == value)
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def settle(self, task_id: str) -> Task:
        """Let a task go on as far as its rows allow, and return it; harmless at any time and any number of times.

        Raises:
            UnknownTask: there is no such task.
        """
        with self._access.write() as connection:
            task = state_machine.settle_task(connection, task_id, now=self._access.clock())
        return _existing(task, task_id)

    def attend(self, task_ids: Sequence[str]) -> None:
        """Say of tasks that a flow run follows them, and that they run; of ended ones nothing is said."""
        if task_ids:
            now = self._access.clock()
            unfinished = tasks.c.status.in_(state_machine.UNFINISHED)
            self._run(among(tasks.c.id, task_ids), unfinished, since=now, attended_at=now)

    def begin(self, task_id: str, *, since: datetime) -> None:
        """Say of a queued task that it runs, whoever runs its jobs, and since when: the start of its first job."""
        self._run(tasks.c.id == task_id, tasks.c.status == str(TaskStatus.QUEUED), since=since)

    def link_flow_run(self, task_id: str, flow_run_id: str) -> None:
        """Note which flow run follows the task."""
        with self._access.write() as connection:
            connection.execute(update(tasks).where(tasks.c.id == task_id).values(flow_run_id=flow_run_id))
            connection.execute(
                update(jobs)
                .where(jobs.c.task_id == task_id, jobs.c.status.in_(state_machine.UNFINISHED))
                .values(flow_run_id=flow_run_id)
            )

    def list_unattended(self, *, silent_seconds: float, limit: int = 100) -> list[Task]:
        """Unfinished tasks that no flow run has attended for so long, the oldest first."""
        silent_since = self._access.clock() - timedelta(seconds=silent_seconds)
        statement = (
            select(tasks)
            .where(
                text(UNFINISHED_TASK),
                func.coalesce(tasks.c.attended_at, tasks.c.created_at) < silent_since,
            )
            .order_by(tasks.c.created_at)
            .limit(limit)
        )
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def list_stuck(self, *, limit: int = 100) -> list[Task]:
        """Unfinished tasks whose current step has ended: another program ended its last job by plain SQL."""
        unfinished = select(jobs.c.id).where(
            jobs.c.task_id == tasks.c.id,
            jobs.c.step_index == tasks.c.step_index,
            jobs.c.status.in_(("queued", "running")),
        )
        statement = select(tasks).where(text(UNFINISHED_TASK), ~unfinished.exists()).limit(limit)
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def unfinished_jobs(self, task: Task, *, limit: int) -> list[Job]:
        """The queued and running jobs of the task's current step, in the order of their ids, at most `limit`."""
        statement = (
            select(jobs)
            .where(
                jobs.c.task_id == task.id,
                jobs.c.step_index == task.step_index,
                jobs.c.status.in_(("queued", "running")),
            )
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self._access.read() as connection:
            return [Job.from_row(row) for row in connection.execute(statement).mappings()]

    def list_jobs(self, task_id: str, *, limit: int | None = None) -> list[Job]:
        """The jobs of a task in the order of its steps and chunks."""
        statement = (
            select(jobs)
            .where(jobs.c.task_id == task_id)
            .order_by(jobs.c.step_index, jobs.c.chunk_index, jobs.c.id)
            .limit(limit)
        )
        with self._access.read() as connection:
            return [Job.from_row(row) for row in connection.execute(statement).mappings()]

    def count_jobs(self, task_id: str) -> dict[str, int]:
        """How many jobs of the task are in each status."""
        statement = select(jobs.c.status, func.count()).where(jobs.c.task_id == task_id).group_by(jobs.c.status)
        with self._access.read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def set_flag(self, task_id: str, flag: str, value: bool) -> None:
        """Set a flag that a later step's `run_if` names; once true it stays true, whatever another chunk says."""
        with self._access.write() as connection:
            task = _existing(state_machine.lock_task(connection, task_id), task_id)
            flags = task.flags_json or {}
            flags[flag] = bool(value) or flags.get(flag, False)
            connection.execute(update(tasks).where(tasks.c.id == task_id).values(flags_json=flags))

    def add_follow_up(
        self,
        task_id: str,
        *,
        type: str,
        priority: int,
        items: Iterable[Mapping[str, Any]],
        payload: Mapping[str, Any] | None = None,
        project_id: int | None = None,
    ) -> list[int]:
        """Add items to the task's follow-up jobs of a type, which run after its last step; returns the jobs' ids.

        Photos that a follow-up job of the same type, priority and payload already has are left out, so that chunks and
        repeated jobs of one task ask for each photo once; what is new fills the last job up to 2000 items.
        """
        with SpooledItems(items) as given, self._access.write() as connection:
            task = _existing(state_machine.lock_task(connection, task_id), task_id)
            pinned = PinnedDefinition.from_json(task.definition_json)
            now = self._access.clock()
            document = {
                **dict(sorted(checked_payload(payload or {}).items())),
                "task_id": task_id,
                "task_type": task.type,
                "source": task.source,
            }
            follow_ups = (
                jobs.c.task_id == task_id,
                jobs.c.step_index == pinned.follow_up_index,
                jobs.c.type == type,
                jobs.c.priority == priority,
                jobs.c.payload_json == document,
            )
            held_by = (
                state_machine.HELD_BY_STEPS
                if task.step_index < pinned.follow_up_index
                else hold_on(connection, tenant_id=task.tenant_id, task_id=task_id)
            )
            touched: list[int] = []
            iterator = iter(given)
            while batch := list(islice(iterator, MAX_ITEMS_PER_JOB)):
                known = set(
                    connection.execute(
                        select(job_items_table.c.photo_id)
                        .join(jobs, jobs.c.id == job_items_table.c.job_id)
                        .where(*follow_ups, job_items_table.c.photo_id.in_([item.get("photo_id") for item in batch]))
                    ).scalars()
                )
                fresh = {item["photo_id"]: item for item in batch if item["photo_id"] not in known}
                remaining = list(fresh.values())
                while remaining:
                    job_id, room = _open_follow_up(connection, *follow_ups)
                    if job_id is None:
                        job = insert_job(
                            connection,
                            {
                                "tenant_id": task.tenant_id,
                                "project_id": project_id if project_id is not None else task.project_id,
                                "type": type,
                                "status": "queued",
                                "scope": str(Scope.PHOTO_SET),
                                "priority": priority,
                                "payload_json": document,
                                "progress_total": 0,
                                "progress_done": 0,
                                "attempts": 0,
                                "task_id": task_id,
                                "task_type": task.type,
                                "step_index": pinned.follow_up_index,
                                "flow_run_id": task.flow_run_id,
                                "held_by": held_by,
                                "created_at": now,
                                "updated_at": now,
                            },
                        )
                        job_id, room = job.id, MAX_ITEMS_PER_JOB
                    added, remaining = remaining[:room], remaining[room:]
                    job_items.insert_items(connection, job_id, task.tenant_id, added, now=now)
                    connection.execute(
                        update(jobs)
                        .where(jobs.c.id == job_id)
                        .values(progress_total=func.coalesce(jobs.c.progress_total, 0) + len(added), updated_at=now)
                    )
                    touched.append(job_id)
            return sorted(set(touched))

    def cancel(self, task_id: str, *, reason: str | None = None) -> Task:
        """End a task with all its queued and running jobs; a task that has ended stays as it is.

        Raises:
            UnknownTask: there is no such task.
        """
        with self._access.write() as connection:
            task = _existing(state_machine.lock_task(connection, task_id), task_id)
            if task.is_final:
                return task
            return state_machine.cancel_task_row(connection, task, now=self._access.clock(), reason=reason)

    def retry(self, task_id: str, *, from_step: int | None = None) -> Task:
        """Run again what failed or was canceled of a task that has ended; with `from_step`, everything from there on.

        Items that are done stay done, unless their step is run again from its beginning.

        Raises:
            UnknownTask: there is no such task.
            TaskConflict: the task has not ended, nothing of it failed, or it has no such step.
        """
        with self._access.write() as connection:
            task = _existing(state_machine.lock_task(connection, task_id), task_id)
            if not task.is_final:
                raise TaskConflict(f"task {task_id} is {task.status}; cancel it or wait for its end before a retry")
            now = self._access.clock()
            pinned = PinnedDefinition.from_json(task.definition_json)
            if from_step is None:
                if not state_machine.reopen_jobs(connection, jobs.c.task_id == task_id, now=now):
                    raise TaskConflict(
                        f"task {task_id} is {task.status} and none of its jobs failed; there is nothing to retry"
                    )
            elif 0 <= from_step < len(pinned.steps):
                connection.execute(delete(jobs).where(jobs.c.task_id == task_id, jobs.c.step_index >= from_step))
                opened = state_machine.reopen_task(connection, task_id, step_index=from_step, now=now)
                insert_step_jobs(connection, _existing(opened, task_id), pinned.steps[from_step], now=now)
            else:
                raise TaskConflict(f"task {task_id} has the steps 0 to {len(pinned.steps) - 1}, not {from_step}")
            return _existing(state_machine.get_task(connection, task_id), task_id)

    def _run(self, *conditions: ColumnElement[bool], since: datetime, **values: Any) -> None:
        began = func.coalesce(tasks.c.started_at, literal(since, tasks.c.started_at.type))
        running = {"status": str(TaskStatus.RUNNING), "started_at": began, "updated_at": self._access.clock()}
        with self._access.write() as connection:
            connection.execute(update(tasks).where(*conditions).values(**running, **values))


def _check_alone(connection: Connection, new: NewTask) -> None:
    definition = new.definition.definition
    if connection.dialect.name == "postgresql":
        # Two starts at the same moment would not see each other's rows.
        key = f"photojobs:{definition.name}:{new.tenant_id}:{new.project_id}"
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
    statement = select(tasks.c.id).where(
        tasks.c.type == definition.name,
        tasks.c.status.in_(("queued", "running")),
        tasks.c.tenant_id == new.tenant_id,
        tasks.c.project_id.is_not_distinct_from(new.project_id),
    )
    other = connection.execute(statement.limit(1)).scalar_one_or_none()
    if other is not None:
        raise AlreadyRunning(f"skipped: {definition.label} is running already for {new.tenant_id}, as task {other}")


def _started(connection: Connection, task: Task) -> WrittenTask:
    first_step = select(jobs.c.id).where(jobs.c.task_id == task.id, jobs.c.step_index == 0)
    ids = connection.execute(first_step.order_by(jobs.c.chunk_index, jobs.c.id)).scalars()
    return WrittenTask(task=task, job_ids=tuple(ids))


def _existing(task: Task | None, task_id: str) -> Task:
    if task is None:
        raise _unknown(task_id)
    return task


def _unknown(task_id: str) -> UnknownTask:
    return UnknownTask(f"task {task_id} does not exist. `photojobs status` lists the latest ones.")


def _of_tenant(task: Task, tenant_id: str) -> Task:
    # Another tenant's task is as unknown as one that does not exist.
    return _existing(task if task.tenant_id == tenant_id else None, task.id)


def _check_undone(connection: Connection, payload: Mapping[str, Any], tenant_id: str) -> None:
    task_id = payload.get(UNDO)
    if not isinstance(task_id, str) or not task_id:
        raise InvalidValue("payload", f'names no task to undo; give its id, as in {{"{UNDO}": "<task id>"}}')
    task = _of_tenant(_existing(state_machine.get_task(connection, task_id), task_id), tenant_id)
    if not task.is_final:
        raise TaskConflict(f"task {task_id} is {task.status}. Cancel it or wait for its end, then undo it.")


def _check_project(connection: Connection, project_id: int, tenant_id: str) -> None:
    statement = select(projects.c.id).where(projects.c.id == project_id, of_tenant(tenant_id))
    if connection.execute(statement).first() is None:
        raise _unknown_project(project_id, tenant_id)


def _unknown_project(project_id: int, tenant_id: str) -> UnknownProject:
    return UnknownProject(
        f"project {project_id} does not exist for tenant {tenant_id}. `photojobs library list` shows those that do."
    )


def _write_items(connection: Connection, new: NewTask, items: SpooledItems) -> None:
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
        iterator = iter(items)
        written = 0
        while batch := list(islice(iterator, job_items.BATCH_SIZE)):
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
    owned = and_(projects.c.id == photos.c.project_id, of_tenant(new.tenant_id))
    foreign = (
        select(task_items.c.photo_id)
        .outerjoin(photos.join(projects, owned), photos.c.id == task_items.c.photo_id)
        .where(task_items.c.task_id == new.id, task_items.c.photo_id.is_not(None), photos.c.id.is_(None))
    )
    first = connection.execute(foreign.order_by(task_items.c.position).limit(6)).scalars().all()
    if first:
        total = connection.execute(select(func.count()).select_from(foreign.subquery())).scalar_one()
        raise UnknownPhoto(first, total=total)


def _write_projects(connection: Connection, new: NewTask) -> None:
    # Kept from the start: a step may move photos, and the projects that they left are still the task's.
    of_items = (
        select(literal(new.id), photos.c.project_id)
        .join(task_items, task_items.c.photo_id == photos.c.id)
        .where(task_items.c.task_id == new.id)
    )
    own = select(literal(new.id), projects.c.id).where(projects.c.id == new.project_id)
    connection.execute(insert(task_projects).from_select(["task_id", "project_id"], of_items.union(own)))


def _open_follow_up(connection: Connection, *conditions: Any) -> tuple[int | None, int]:
    statement = (
        select(jobs.c.id, jobs.c.progress_total)
        .where(*conditions, jobs.c.status == "queued", jobs.c.progress_total < MAX_ITEMS_PER_JOB)
        .order_by(jobs.c.id.desc())
        .limit(1)
        .with_for_update()
    )
    row = connection.execute(statement).one_or_none()
    return (None, 0) if row is None else (row.id, MAX_ITEMS_PER_JOB - row.progress_total)
