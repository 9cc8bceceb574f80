"""The table `tasks`: starts, finds, cancels and retries tasks.

`storage.lifecycle.state_machine` decides how a task continues or ends after its jobs have ended. Its `reopen_jobs`
decides which jobs a retry queues again and to which step the task goes back, and its `cancel_task_row` what canceling
does. Only a retry from a given step is decided here, in `retry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, literal, select, text, update

from storage.database.driver_statement import DriverStatement
from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import UNFINISHED_TASK, jobs, tasks
from storage.errors import InvalidValue, TaskConflict
from storage.history.foreign_rows import is_removal_refused, removal_refusals
from storage.lifecycle import state_machine
from storage.lifecycle.job_listings import check_page
from storage.lifecycle.lock_order import locked_jobs
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.lifecycle.step_jobs import insert_step_jobs
from storage.queue.follow_ups import add_follow_up
from storage.queue.new_tasks import NewTask, WrittenTask, existing_task, task_of_tenant, unknown_task, write_task
from storage.queue.project_claims import claims_of, pass_on_claims
from storage.records import Job, Task, TaskStatus

_ENDED_WITH = DriverStatement(
    """
    SELECT 1 FROM tasks WHERE tasks.id = :task_id AND tasks.finished_at = :finished_at AND :id = (
        SELECT max(jobs.id) FROM jobs WHERE jobs.task_id = :task_id AND jobs.finished_at = :finished_at
            AND jobs.status IN ('completed', 'failed'))""",
    is_planned_once=True,
)


class TasksRepository:
    """Reads and writes tasks, in a `Database` or inside the caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def start(self, new: NewTask) -> Task:
        """Write a task and the jobs of its first step in one transaction, and return the task.

        If a task with this id exists, it is returned unchanged.

        The items are read to their end before the transaction begins.

        Raises:
            UnknownProject: a project does not exist, or it belongs to another tenant.
            UnknownTag: no project of the tenant has a tag of the selection.
            UnknownPhoto: the photo of an item does not exist or belongs to another tenant.
            UnknownTask: a task with this id belongs to another tenant, or the task to undo does not exist for the
                tenant.
            TaskConflict: the task to undo has not ended.
            InvalidValue: a value cannot be stored, both items and a selection are given, or the payload of an undo
                names no task.
            AlreadyRunning: the task is exclusive, and a task of the same type, tenant and project is unfinished.
        """
        return self.start_with_jobs(new).task

    def start_with_jobs(self, new: NewTask) -> WrittenTask:
        """Start a task as `start` does; return it with the ids of its first jobs, read in the same transaction."""
        return write_task(self._access, new)

    def get_by_id(self, task_id: str) -> Task | None:
        """Return the task with this id, or None."""
        with self._access.read() as connection:
            return state_machine.get_task(connection, task_id)

    def get(self, task_id: str, *, tenant_id: str | None = None) -> Task:
        """Return the task with this id.

        Raises:
            UnknownTask: the task does not exist, or it belongs to another tenant.
        """
        task = existing_task(self.get_by_id(task_id), task_id)
        return task if tenant_id is None else task_of_tenant(task, tenant_id)

    def whole_id(self, beginning: str, *, tenant_id: str | None = None) -> str:
        """Return the id of the only task whose id starts with `beginning`.

        A `beginning` that is itself the id of a task is returned unchanged, whatever the tenant of the task is.

        Raises:
            UnknownTask: no task, or no task of the given tenant, has such an id.
            InvalidValue: several ids start with `beginning`.
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
            raise InvalidValue(
                "task", f'"{beginning}" is the beginning of several ids: {several}; give more characters'
            )
        if not found:
            raise unknown_task(beginning)
        return str(found[0])

    def has_ended_with(self, job: Job) -> bool:
        """Return whether the end of this job ended its task. This is true for at most one job of a task."""
        # A task has the end time of its last job. If several jobs have this end time, the job with the highest id
        # counts as the last.
        ended = {"task_id": job.task_id, "finished_at": job.finished_at, "id": job.id}
        return bool(self._access.run(_ENDED_WITH, ended))

    def list_newest(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        tenant_id: str | None = None,
        status: str | None = None,
        type: str | None = None,
    ) -> list[Task]:
        """Return tasks, newest first.

        Raises:
            InvalidValue: `limit` or `offset` is not a whole number, or is negative.
        """
        check_page(limit=limit, offset=offset)
        statement = select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit).offset(offset)
        for name, value in {"tenant_id": tenant_id, "status": status, "type": type}.items():
            if value is not None:
                statement = statement.where(tasks.c[name] == value)
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def settle(self, task_id: str) -> Task:
        """Advance a task as far as the states of its jobs allow, and return it. Repeated calls do no harm.

        Raises:
            UnknownTask: there is no such task.
        """
        with self._access.write() as connection:
            task = state_machine.settle_task(connection, task_id, now=self._access.clock())
        return existing_task(task, task_id)

    def heartbeat(self, task_ids: Sequence[str]) -> None:
        """Record that a process runs these tasks or waits for them; set tasks that have not ended to running.

        On PostgreSQL a locked task is left out. Otherwise all heartbeats of this process would wait while another
        process writes the jobs of that task's next step.
        """
        if task_ids:
            now = self._access.clock()
            followed = select(tasks.c.id).where(among(tasks.c.id, task_ids), text(UNFINISHED_TASK))
            self._run(
                tasks.c.id.in_(followed.with_for_update(key_share=True, skip_locked=True)), since=now, attended_at=now
            )

    def begin(self, task_id: str, *, since: datetime) -> None:
        """Set a queued task to running; `since` is the time at which its first job started."""
        self._run(tasks.c.id == task_id, tasks.c.status == str(TaskStatus.QUEUED), since=since)

    def link_flow_run(self, task_id: str, flow_run_id: str) -> None:
        """Store which flow run follows the task, in its row and in the rows of its unfinished jobs."""
        with self._access.write() as connection:
            connection.execute(update(tasks).where(tasks.c.id == task_id).values(flow_run_id=flow_run_id))
            connection.execute(
                update(jobs)
                .where(locked_jobs(connection, jobs.c.task_id == task_id, jobs.c.status.in_(state_machine.UNFINISHED)))
                .values(flow_run_id=flow_run_id)
            )

    def list_unfollowed(self, *, silent_seconds: float) -> list[Task]:
        """Return all unfinished tasks that no process has followed for `silent_seconds`, oldest first.

        On PostgreSQL a locked task is left out, because a process works on it.
        """
        now, silent = self._access.clock(), timedelta(seconds=silent_seconds)
        attended_at = func.coalesce(tasks.c.attended_at, tasks.c.created_at)
        statement = (
            select(tasks)
            # A time that is much later than now does not count: the process that wrote it may have died before the
            # clock was set back.
            .where(text(UNFINISHED_TASK), ~attended_at.between(now - silent, now + silent))
            .order_by(tasks.c.created_at)
            .with_for_update(read=True, key_share=True, skip_locked=True)
        )
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def list_stuck(self, *, limit: int = 100) -> list[Task]:
        """Return up to `limit` unfinished tasks whose current step has no unfinished job.

        Such tasks exist if plain SQL ended the last job of a step, or if a process died just after it had ended that
        job.

        On PostgreSQL a locked task is left out, because another process settles it.
        """
        unfinished = select(jobs.c.id).where(
            jobs.c.task_id == tasks.c.id,
            jobs.c.step_index == tasks.c.step_index,
            jobs.c.status.in_(("queued", "running")),
        )
        stuck = select(tasks).where(text(UNFINISHED_TASK), ~unfinished.exists()).limit(limit)
        statement = stuck.with_for_update(read=True, key_share=True, skip_locked=True)
        with self._access.read() as connection:
            return [Task.from_row(row) for row in connection.execute(statement).mappings()]

    def unfinished_jobs(self, task: Task, *, limit: int) -> list[Job]:
        """Return the queued and running jobs of the task's current step in id order, at most `limit`.

        If the task was sent back to an earlier step since `task` was read, these are jobs of the earlier step. If the
        task has gone on, the list is empty.
        """
        current = select(tasks.c.step_index).where(tasks.c.id == task.id).scalar_subquery()
        statement = (
            select(jobs)
            .where(
                jobs.c.task_id == task.id,
                jobs.c.step_index == current,
                jobs.c.step_index <= task.step_index,
                jobs.c.status.in_(("queued", "running")),
            )
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self._access.read() as connection:
            return [Job.from_row(row) for row in connection.execute(statement).mappings()]

    def list_jobs(self, task_id: str, *, limit: int | None = None) -> list[Job]:
        """Return the jobs of a task in the order of its steps and chunks."""
        statement = (
            select(jobs)
            .where(jobs.c.task_id == task_id)
            .order_by(jobs.c.step_index, jobs.c.chunk_index, jobs.c.id)
            .limit(limit)
        )
        with self._access.read() as connection:
            return [Job.from_row(row) for row in connection.execute(statement).mappings()]

    def count_jobs(self, task_id: str) -> dict[str, int]:
        """Return the number of jobs of the task in each status."""
        statement = select(jobs.c.status, func.count()).where(jobs.c.task_id == task_id).group_by(jobs.c.status)
        with self._access.read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def set_flag(self, task_id: str, flag: str, value: bool) -> None:
        """Set a flag of the task for the `run_if` of later steps. A flag that is true stays true."""
        with self._access.write() as connection:
            task = existing_task(state_machine.lock_task(connection, task_id), task_id)
            flags = {**task.flags, flag: bool(value) or task.flags.get(flag, False)}
            connection.execute(update(tasks).where(tasks.c.id == task_id).values(flags_json=flags))

    def add_follow_up(
        self,
        task_id: str,
        *,
        type: str,
        priority: int,
        photo_ids: Iterable[int],
        payload: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Add photos to follow-up jobs of the task, which run after its last step; return the ids of these jobs.

        A photo is left out if a follow-up job of the same type, priority and payload already has it. So each photo is
        processed once, even if several chunks or repeated jobs of the task add it. If a task that had ended is retried,
        the photos of the repeated steps are processed again. A photo that no longer exists is left out, too. New photos
        are added to the last job until it has 2000 photos, then to new jobs.

        Raises:
            UnknownTask: there is no such task.
            InvalidValue: the type, the priority or the payload cannot be stored.
        """
        with self._access.write() as connection:
            task = existing_task(state_machine.lock_task(connection, task_id), task_id)
            return add_follow_up(
                connection,
                task,
                type=type,
                priority=priority,
                photo_ids=photo_ids,
                payload=payload or {},
                now=self._access.clock(),
            )

    def cancel(self, task_id: str, *, reason: str | None = None) -> Task:
        """Cancel a task with all its queued and running jobs; a task that has ended stays unchanged.

        Raises:
            UnknownTask: there is no such task.
        """
        with self._access.write() as connection:
            task = existing_task(state_machine.lock_task(connection, task_id), task_id)
            if task.is_final:
                return task
            return state_machine.cancel_task_row(connection, task, now=self._access.clock(), reason=reason)

    def retry(self, task_id: str, *, from_step: int | None = None) -> Task:
        """Queue the failed and canceled jobs of an ended task again, or run the task again from the step `from_step`.

        With `from_step`, the jobs of this step and of all later steps are removed, and the step gets new jobs. Without
        `from_step`, items that are done stay done.

        Raises:
            UnknownTask: there is no such task.
            TaskConflict: the task has not ended; without `from_step`, it has no failed or canceled job; it has no step
                `from_step`; or rows of other programs depend on a job that would be replaced.
        """
        with self._access.write() as connection:
            task = existing_task(state_machine.lock_task(connection, task_id), task_id)
            if not task.is_final:
                raise TaskConflict(f"task {task_id} is {task.status}; cancel it or wait for its end before a retry")
            now = self._access.clock()
            pinned = PinnedDefinition.from_json(task.definition_json)
            if from_step is None:
                if not state_machine.reopen_jobs(connection, jobs.c.task_id == task_id, now=now):
                    raise TaskConflict(
                        f"task {task_id} is {task.status} and none of its jobs failed, so there is nothing to retry; "
                        "give the step from which the task must run again"
                    )
            elif 0 <= from_step < len(pinned.steps):
                repeated = (jobs.c.task_id == task_id, jobs.c.step_index >= from_step)
                _check_removable(connection, *repeated, problem=f"task {task_id} cannot repeat from step {from_step}")
                claims = claims_of(connection, *repeated)
                connection.execute(delete(jobs).where(*repeated))
                opened = state_machine.reopen_task(connection, task_id, step_index=from_step, now=now)
                insert_step_jobs(connection, existing_task(opened, task_id), pinned.steps[from_step], now=now)
                # Handlers of canceled jobs may still work in their projects, so the claims of the removed jobs are
                # kept.
                any_new = connection.execute(select(func.min(jobs.c.id)).where(*repeated)).scalar_one()
                pass_on_claims(connection, claims, job_id=any_new, now=now)
            else:
                last = len(pinned.steps) - 1
                numbers = f"a number from 0 to {last}" if last else "0, the number of its only step"
                raise TaskConflict(f"task {task_id} has no step {from_step}; give {numbers}")
            return existing_task(state_machine.get_task(connection, task_id), task_id)

    def _run(self, *conditions: ColumnElement[bool], since: datetime, **values: Any) -> None:
        began = func.coalesce(tasks.c.started_at, literal(since, tasks.c.started_at.type))
        running = {"status": str(TaskStatus.RUNNING), "started_at": began, "updated_at": self._access.clock()}
        with self._access.write() as connection:
            connection.execute(update(tasks).where(*conditions).values(**running, **values))


def _check_removable(connection: Connection, *conditions: ColumnElement[bool], problem: str) -> None:
    refused = is_removal_refused(connection, jobs)
    if refused is None:
        return
    first = connection.execute(select(jobs.c.id).where(*conditions, refused).order_by(jobs.c.id).limit(1)).scalars()
    for job_id, reason in removal_refusals(connection, jobs, first.all()).items():
        raise TaskConflict(f"{problem}: job {job_id}: {reason}")
