"""Asks Prefect for the flow run of a task, once the transaction that wrote the task has committed.

If Prefect does not answer, `deployments.serving.flow_run_recovery` asks later.
"""

import logging
import threading
import time

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from flows.process.runtime import Runtime
from flows.starting.prefect_requests import request_flow_run
from flows.telemetry.log_fields import about_task
from storage.errors import StorageError
from storage.queue.tasks import TasksRepository
from storage.records import Task

logger = logging.getLogger("photojobs.outbox")

#: How long the commit of the caller may take. After a longer time, Prefect is not asked.
COMMIT_SECONDS = 30.0


def ask_prefect(tasks: TasksRepository, task: Task, connection: Connection | None) -> str | None:
    """Ask Prefect for a flow run of a task: at once, or after the commit of the `connection` that wrote the task.

    A task that has ended, because it was started before with the same id, gets no other flow run. In a plan, Prefect is
    not asked: the task is not in the real database, so its flow run would start the task there.

    Returns:
        The id of the flow run; None if Prefect started none, or is asked after the commit.
    """
    if task.is_final or Runtime.is_planning():
        return task.flow_run_id
    if connection is not None:
        _ask_after_commit(connection, task)
        return None
    flow_run_id = request_flow_run(task)
    if flow_run_id is not None and flow_run_id != task.flow_run_id:
        try:
            tasks.link_flow_run(task.id, flow_run_id)
        except StorageError as error:
            # The flow run stores its id itself when it begins. An error here would make the caller start another task.
            logger.warning(
                "task %s: its flow run could not be linked to it (%s); the flow run links itself when it begins",
                task.id,
                error,
                extra=about_task(task),
            )
    return flow_run_id


def _ask_after_commit(connection: Connection, task: Task) -> None:
    """Let a thread ask Prefect for a flow run of a task after the commit of `connection`; return at once.

    The transaction of `connection` wrote the task. Prefect is not asked if this transaction, or the savepoint in which
    the task was written, is rolled back. With an asynchronous engine, Prefect is not asked either, because the
    connections belong to the event loop; `photojobs up` or a worker finds such a task.
    """
    engine = connection.engine
    if engine.dialect.is_async:
        return

    def ask(committing: Connection) -> None:
        # SQLAlchemy calls this function before the commit. A request from here would keep the caller's locks until
        # Prefect answers, and the flow run might begin before the task is visible.
        if _is_written(committing, task):
            threading.Thread(target=_ask_when_committed, args=(engine, task), name="photojobs-ask-prefect").start()

    event.listen(connection, "commit", ask, once=True)


def _is_written(connection: Connection, task: Task) -> bool:
    try:
        return _is_current(TasksRepository(connection).get_by_id(task.id), task)
    except (StorageError, SQLAlchemyError):
        # A statement of the transaction has failed, so the database will roll the transaction back.
        return False


def _ask_when_committed(engine: Engine, task: Task) -> None:
    give_up_at = time.monotonic() + COMMIT_SECONDS
    try:
        while not _is_current(found := _committed(engine, task), task):
            if time.monotonic() > give_up_at:
                return
            threading.Event().wait(0.02)
        if found is None or found.is_final:
            return
        flow_run_id = request_flow_run(task)
        if flow_run_id is not None:
            with engine.begin() as connection:
                TasksRepository(connection).link_flow_run(task.id, flow_run_id)
    except Exception as error:  # noqa: BLE001 - the task is stored and will run. At a program's end, imports may fail.
        logger.warning(
            "task %s: the request for its flow run failed (%s); `photojobs up` or a worker runs the task",
            task.id,
            error,
            extra=about_task(task),
        )


def _committed(engine: Engine, task: Task) -> Task | None:
    with engine.execution_options(photojobs_read=True).connect() as connection:
        return TasksRepository(connection).get_by_id(task.id)


def _is_current(found: Task | None, task: Task) -> bool:
    """Return whether the row `found` was read after the commit that wrote `task`.

    Before the commit, a new task has no row, and a retried task has its old row.
    """
    return found is not None and (not found.is_final or found.updated_at > task.updated_at)
