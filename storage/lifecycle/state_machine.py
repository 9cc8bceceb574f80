"""The state machine of jobs and tasks: ends many jobs at once, and starts the next step of a task or ends the task.

`run_if` of a step decides whether the task skips the step.

`end_jobs` locks the tasks of the jobs before it ends the jobs, and settles the tasks in the same transaction: each task
goes to its next step, or ends. After the commit, the caller must call `settle_after`, unless the transaction belongs to
a user. `storage.queue.exchange` ends single jobs, and settles their tasks after the commit.

These are all changes of a job's status:

* queued to running: a claim (`TAKE` in `storage.queue.exchange_statements`)
* running to queued: `give_back`, for a claim that is handed back, a retry after a failed attempt, a paused task, or the
  rescue of a dead executor's job
* queued or running to completed, failed or canceled: `end_jobs`, or for single jobs `storage.queue.exchange`
* queued to failed: `_fail_later_steps`, for jobs of steps that their task does not reach
* failed or canceled to queued: `reopen_jobs`
* any status to queued: `JobsRepository.requeue`

`flows.execution.job_run` decides whether a failed job gets another attempt, and `storage.queue.rescue` decides it for
the job of a dead executor.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextClause, func, select, text, update

from storage.database.given_values import among
from storage.database.tables import RUNNING, UNFINISHED_UNIQUE, job_items, jobs, project_claims, tasks
from storage.errors import CorruptDefinition, CorruptPayload
from storage.lifecycle.lock_order import locked_jobs
from storage.lifecycle.notifications import notify, notify_followers
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.lifecycle.step_jobs import HOLD_OF_JOB, hold_on, insert_step_jobs
from storage.records import Job, JobStatus, Task, TaskStatus
from task_definitions.wording import portion

#: The maximum number of characters of an error message in a row; the log has the full text.
ERROR_MESSAGE_LENGTH = 1000

#: The error message of a failed job whose executor gave none.
NO_REASON = "no reason was given"

#: Jobs of later steps, such as follow-up jobs, have this value of `held_by` until their task has reached the step.
HELD_BY_STEPS = "steps"

#: The columns that change when a job is queued again. `held_by` is determined again, because holds may have changed.
QUEUED_ANEW: Mapping[str, Any] = MappingProxyType(
    {
        "status": str(JobStatus.QUEUED),
        "started_at": None,
        "finished_at": None,
        "worker_id": None,
        "heartbeat_at": None,
        "claim_token": None,
        "run_after": None,
        "held_by": HOLD_OF_JOB,
    }
)

UNFINISHED = (JobStatus.QUEUED, JobStatus.RUNNING)

#: The statuses of jobs that can be retried.
RETRIED = (JobStatus.FAILED, JobStatus.CANCELED)


def end_jobs(
    connection: Connection,
    *conditions: ColumnElement[bool],
    status: JobStatus,
    now: datetime,
    error_message: str | None = None,
    result: Mapping[str, Any] | None = None,
) -> list[Job]:
    """End the queued and running jobs that meet the conditions, settle their tasks, and return the ended jobs.

    Jobs that had ended before stay unchanged, so a late `complete` does not change a canceled job.
    """
    open_jobs = (jobs.c.status.in_(UNFINISHED), *conditions)
    task_ids = lock_tasks_of(connection, *open_jobs)
    ended = _end_locked(
        connection, *open_jobs, task_ids=task_ids, status=status, now=now, error_message=error_message, result=result
    )
    # If a task was started in the meantime, it must be locked before its jobs are ended.
    while late := lock_tasks_of(connection, *open_jobs) if connection.dialect.name == "postgresql" else []:
        ended += _end_locked(
            connection, *open_jobs, task_ids=late, status=status, now=now, error_message=error_message, result=result
        )
        task_ids += late
    _keep_claims(connection, [job.id for job in ended], now=now)
    for task_id in task_ids:
        settle_task(connection, task_id, now=now)
    if ended:
        notify_followers(connection, task_ids, now=now)
    return ended


def _end_locked(
    connection: Connection,
    *open_jobs: ColumnElement[bool],
    task_ids: list[str],
    status: JobStatus,
    now: datetime,
    error_message: str | None,
    result: Mapping[str, Any] | None,
) -> list[Job]:
    """End the open jobs that belong to these locked tasks, or to no task."""
    values: dict[str, Any] = {"status": str(status), "finished_at": now, "updated_at": now, "run_after": None}
    if status == JobStatus.FAILED:
        values |= {"error_message": cut(error_message or NO_REASON), "last_error_at": now}
    elif error_message is not None:
        values["error_message"] = cut(error_message)
    if result is not None:
        values["result_json"] = dict(result)
    of_locked = jobs.c.task_id.is_(None) | among(jobs.c.task_id, task_ids) if task_ids else jobs.c.task_id.is_(None)
    statement = (
        update(jobs).where(locked_jobs(connection, *open_jobs, of_locked)).values(values).returning(*jobs.columns)
    )
    return [Job.from_row(row) for row in connection.execute(statement).mappings()]


def give_back(
    connection: Connection,
    *conditions: ColumnElement[bool],
    now: datetime,
    run_after: datetime | None = None,
    error_message: str | None = None,
    count_attempt: bool = True,
) -> list[Job]:
    """Queue running jobs again, to start at `run_after` at the earliest, and return them; by default, count an attempt.

    The failed and interrupted items of these jobs become pending, so that the next attempt processes only unfinished
    items.
    """
    values: dict[str, Any] = {**QUEUED_ANEW, "run_after": run_after, "updated_at": now}
    if count_attempt:
        values["attempts"] = jobs.c.attempts + 1
    if error_message is not None:
        values |= {"error_message": cut(error_message), "last_error_at": now}
    running = locked_jobs(connection, text(RUNNING), *conditions)
    statement = update(jobs).where(running).values(values).returning(*jobs.columns)
    given_back = [Job.from_row(row) for row in connection.execute(statement).mappings().all()]
    reopen_items(connection, [job.id for job in given_back], now=now)
    if given_back:
        notify(connection)
    return given_back


def reopen_items(connection: Connection, job_ids: list[int], *, now: datetime) -> None:
    """Make the failed and interrupted items of jobs pending again, and renew the claims of these jobs on projects."""
    if not job_ids:
        return
    _keep_claims(connection, job_ids, now=now)
    connection.execute(
        update(job_items)
        .where(among(job_items.c.job_id, job_ids), job_items.c.status.in_(("failed", "running")))
        .values(status="pending", updated_at=now)
    )


def _keep_claims(connection: Connection, job_ids: list[int], *, now: datetime) -> None:
    """Renew the claims on projects of these jobs, because their executors may still work in the projects."""
    if job_ids:
        held = among(project_claims.c.job_id, job_ids)
        connection.execute(update(project_claims).where(held).values(claimed_at=now))


def reopen_jobs(connection: Connection, *conditions: ColumnElement[bool], now: datetime) -> list[Job]:
    """Queue the failed and canceled jobs that meet the conditions again, reset their attempts, and return them.

    Their tasks, even if ended, continue from the first step that has such a job. Items that are done stay done. A job
    stays unchanged if an unfinished job, or a later job that also meets the conditions, has the same `unique_key`.
    """
    closed = (jobs.c.status.in_(RETRIED), *conditions)
    task_ids = lock_tasks_of(connection, *closed)
    superseded = _superseded(connection, *closed)
    statement = (
        update(jobs)
        .where(locked_jobs(connection, *closed, *([~among(jobs.c.id, superseded)] if superseded else [])))
        .values({**QUEUED_ANEW, "attempts": 0, "error_message": None, "updated_at": now})
        .returning(*jobs.columns)
    )
    reopened = [Job.from_row(row) for row in connection.execute(statement).mappings().all()]
    reopen_items(connection, [job.id for job in reopened], now=now)
    for task_id in task_ids:
        steps = [job.step_index for job in reopened if job.task_id == task_id and job.step_index is not None]
        if steps:
            reopen_task(connection, task_id, step_index=min(steps), now=now)
    if reopened:
        notify(connection)
    return reopened


def reopen_task(connection: Connection, task_id: str, *, step_index: int, now: datetime) -> Task | None:
    """Let a task continue from a step that has queued jobs. An unfinished task at an earlier step stays there.

    Queued jobs of later steps, such as follow-up jobs, wait until the task has reached their steps.
    """
    task = lock_task(connection, task_id)
    if task is None:
        return None
    if task.is_final or task.step_index > step_index:
        connection.execute(
            update(tasks)
            .where(tasks.c.id == task_id)
            .values(
                status=str(TaskStatus.QUEUED),
                step_index=step_index,
                finished_at=None,
                error_message=None,
                attended_at=None,
                # The old flow run ended with the task. If the old flow run was canceled, it must not cancel the
                # reopened task.
                flow_run_id=None if task.is_final else task.flow_run_id,
                updated_at=now,
            )
        )
    else:
        step_index = task.step_index
    connection.execute(
        update(jobs)
        .where(
            locked_jobs(
                connection, jobs.c.task_id == task_id, jobs.c.step_index > step_index, jobs.c.status == "queued"
            )
        )
        .values(held_by=HELD_BY_STEPS)
    )
    return get_task(connection, task_id)


def settle_task(connection: Connection, task_id: str, *, now: datetime) -> Task | None:
    """Advance a task as far as its jobs allow, and return it: insert the jobs of the next step, or end the task.

    Does nothing if a job of the current step is unfinished, so repeated calls do no harm. Processes that wait for the
    task also call this function, because other programs may end its jobs by plain SQL.
    """
    task = lock_task(connection, task_id)
    while task is not None and not task.is_final and not _has_unfinished(connection, task, task.step_index):
        if _count_by_status(connection, task).get(JobStatus.CANCELED):
            return cancel_task_row(connection, task, now=now)
        try:
            goes_on = _advance(connection, task, now=now)
        except (CorruptDefinition, CorruptPayload) as error:
            # The task fails, because its unreadable row must keep neither its jobs nor other tasks from ending.
            return _end_task(connection, task, status=TaskStatus.FAILED, now=now, error_message=str(error))
        if not goes_on:
            return _finish(connection, task, now=now)
        task = get_task(connection, task_id)
    return task


def cancel_task_row(connection: Connection, task: Task, *, now: datetime, reason: str | None = None) -> Task:
    """Cancel a task and its unfinished jobs."""
    # The task is canceled before its jobs, because the end of the jobs settles the task, and a task that has ended
    # starts no next step.
    canceled = _end_task(connection, task, status=TaskStatus.CANCELED, now=now, error_message=reason)
    end_jobs(connection, jobs.c.task_id == task.id, status=JobStatus.CANCELED, now=now, error_message=reason)
    return canceled


def get_task(connection: Connection, task_id: str) -> Task | None:
    """Return the task with this id, or None."""
    return _read_task(connection, select(tasks).where(tasks.c.id == task_id))


def lock_task(connection: Connection, task_id: str) -> Task | None:
    """Return the task with this id and lock it until the transaction ends; None if it does not exist."""
    return _read_task(connection, select(tasks).where(tasks.c.id == task_id).with_for_update())


def _read_task(connection: Connection, statement: Select[Any]) -> Task | None:
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else Task.from_row(row)


def lock_tasks_of(connection: Connection, *conditions: ColumnElement[bool]) -> list[str]:
    """Lock the tasks of the jobs that meet the conditions, and return their ids.

    They are locked in order of id, so that two transactions never wait for each other.
    """
    statement = select(jobs.c.task_id).where(jobs.c.task_id.is_not(None), *conditions).distinct()
    task_ids = sorted(connection.execute(statement).scalars())
    for task_id in task_ids if connection.dialect.name == "postgresql" else ():
        connection.execute(select(tasks.c.id).where(tasks.c.id == task_id).with_for_update())
    return task_ids


def cut(message: str) -> str:
    """Return `message` so that a column can store it: cut at 1000 characters, without NUL and lone surrogates."""
    return message.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()[:ERROR_MESSAGE_LENGTH]


def _superseded(connection: Connection, *conditions: ColumnElement[bool]) -> list[int]:
    keyed = select(jobs.c.id, jobs.c.tenant_id, jobs.c.unique_key).where(jobs.c.unique_key.is_not(None), *conditions)
    seen: set[tuple[str, str]] = set()
    superseded = []
    for row in connection.execute(keyed.order_by(jobs.c.id.desc())).all():
        unfinished = select(jobs.c.id).where(
            jobs.c.tenant_id == row.tenant_id, jobs.c.unique_key == row.unique_key, text(UNFINISHED_UNIQUE)
        )
        if (row.tenant_id, row.unique_key) in seen or connection.execute(unfinished).first() is not None:
            superseded.append(row.id)
        seen.add((row.tenant_id, row.unique_key))
    return superseded


def _advance(connection: Connection, task: Task, *, now: datetime) -> bool:
    """Move a task whose step has ended to its next step, or to its follow-up jobs; return False if those have ended."""
    pinned = PinnedDefinition.from_json(task.definition_json)
    if task.step_index >= pinned.follow_up_index:
        return False
    failed = bool(_count_by_status(connection, task).get(JobStatus.FAILED))
    stops = failed and pinned.steps[task.step_index].definition.on_failure == "stop"
    if stops:
        _fail_later_steps(connection, task, pinned.follow_up_index, now=now)
    for step in () if stops else pinned.steps[task.step_index + 1 :]:
        is_wanted = task.flags.get(step.definition.run_if or "", True)
        # A retry may have queued jobs of a step that the flags would now skip.
        if not is_wanted and not _has_unfinished(connection, task, step.index):
            continue
        _move_to(connection, task, step.index, now=now)
        # After a retry, a later step may have jobs already; its completed jobs are not repeated.
        if _has_jobs(connection, task, step.index):
            _release_waiting(connection, task, step.index, now=now)
        else:
            insert_step_jobs(connection, task, step, now=now)
        return True
    # Follow-up jobs belong to completed work, so they run even if a failure stopped the steps.
    _move_to(connection, task, pinned.follow_up_index, now=now)
    _release_waiting(connection, task, pinned.follow_up_index, now=now)
    return True


def _fail_later_steps(connection: Connection, task: Task, follow_up_index: int, *, now: datetime) -> None:
    """Fail the jobs of later steps that a retry has queued, because the task does not reach these steps."""
    _end_locked(
        connection,
        jobs.c.step_index > task.step_index,
        jobs.c.step_index < follow_up_index,
        jobs.c.status == "queued",
        jobs.c.task_id == task.id,
        task_ids=[task.id],
        status=JobStatus.FAILED,
        now=now,
        error_message=f"steps[{task.step_index}] of its task failed, so the job did not run; "
        f"`photojobs retry {task.id}` queues all failed jobs of the task again",
        result=None,
    )


def _has_unfinished(connection: Connection, task: Task, step_index: int) -> bool:
    return _has_jobs(connection, task, step_index, text("status IN ('queued', 'running')"))


def _has_jobs(connection: Connection, task: Task, step_index: int, *conditions: TextClause) -> bool:
    of_step = (jobs.c.task_id == task.id, jobs.c.step_index == step_index)
    return connection.execute(select(jobs.c.id).where(*of_step, *conditions).limit(1)).first() is not None


def _count_by_status(connection: Connection, task: Task, *, of_step: bool = True) -> dict[str, int]:
    statement = select(jobs.c.status, func.count()).where(jobs.c.task_id == task.id).group_by(jobs.c.status)
    if of_step:
        statement = statement.where(jobs.c.step_index == task.step_index)
    return {row[0]: row[1] for row in connection.execute(statement)}


def _move_to(connection: Connection, task: Task, step_index: int, *, now: datetime) -> None:
    connection.execute(update(tasks).where(tasks.c.id == task.id).values(step_index=step_index, updated_at=now))


def _release_waiting(connection: Connection, task: Task, step_index: int, *, now: datetime) -> None:
    waiting = locked_jobs(
        connection,
        jobs.c.task_id == task.id,
        jobs.c.step_index == step_index,
        jobs.c.status == "queued",
        jobs.c.held_by == HELD_BY_STEPS,
    )
    held_by = hold_on(connection, tenant_id=task.tenant_id, task_id=task.id)
    if connection.execute(update(jobs).where(waiting).values(held_by=held_by, updated_at=now)).rowcount:
        notify(connection)


def _finish(connection: Connection, task: Task, *, now: datetime) -> Task:
    counts = _count_by_status(connection, task, of_step=False)
    failed = counts.get(JobStatus.FAILED, 0)
    if counts.get(JobStatus.CANCELED):
        return cancel_task_row(connection, task, now=now)
    if failed:
        message = f"{portion(failed, sum(counts.values()), 'job')} failed"
        return _end_task(connection, task, status=TaskStatus.FAILED, now=now, error_message=message)
    return _end_task(connection, task, status=TaskStatus.COMPLETED, now=now)


def _end_task(
    connection: Connection, task: Task, *, status: TaskStatus, now: datetime, error_message: str | None = None
) -> Task:
    values: dict[str, Any] = {"status": str(status), "finished_at": now, "updated_at": now}
    if error_message is not None:
        values["error_message"] = cut(error_message)
    ended = update(tasks).where(tasks.c.id == task.id).values(values).returning(*tasks.columns)
    return Task.from_row(connection.execute(ended).mappings().one())
