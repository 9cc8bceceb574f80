"""Asks Prefect for the flow run of a task, once the transaction that wrote the task has committed."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from flows.starting.prefect_requests import request_flow_run
from flows.telemetry.log_fields import about_task
from storage.errors import StorageError
from storage.queue.tasks import TasksRepository
from storage.records import Task

logger = logging.getLogger("photojobs.outbox")

#: If the commit takes longer, Prefect is not asked.
COMMIT_SECONDS = 30.0


def ask_now(tasks: TasksRepository, task: Task) -> str | None:
    """Ask Prefect for a flow run of a committed task, and link the two.

    Returns:
        The id of the flow run; None if Prefect did not answer.
    """
    flow_run_id = request_flow_run(task)
    if flow_run_id is not None and flow_run_id != task.flow_run_id:
        try:
            tasks.link_flow_run(task.id, flow_run_id)
        except StorageError as error:
            # The flow run links itself when it begins. An error here would make the caller start the task again.
            logger.warning("task %s: its flow run could not be linked: %s", task.id, error, extra=about_task(task))
    return flow_run_id


def ask_after_commit(connection: Connection, task: Task) -> None:
    """Ask Prefect for a flow run of a task after the transaction that wrote it commits; return at once.

    A separate thread asks. Prefect is not asked if the transaction, or the savepoint that the task was written in, is
    rolled back. It is not asked either if the engine is asynchronous, because its connections belong to the event
    loop; `photojobs up` or a worker finds such a task.
    """
    engine = connection.engine
    if engine.dialect.is_async:
        return

    def ask(committing: Connection) -> None:
        # The event comes before the commit. A request from here would keep the caller's locks until Prefect answers,
        # and the flow run might begin before the task is visible.
        if _is_written(committing, task):
            threading.Thread(target=_ask_when_committed, args=(engine, task), name="photojobs-ask-prefect").start()

    event.listen(connection, "commit", ask, once=True)


def _is_written(connection: Connection, task: Task) -> bool:
    try:
        return _is_current(TasksRepository(connection).get_by_id(task.id), task)
    except (StorageError, SQLAlchemyError):
        # A statement of the transaction has failed, so nothing will be committed.
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
    except (StorageError, SQLAlchemyError) as error:
        logger.warning(
            "task %s: Prefect was not asked (%s); `photojobs up` or a worker will run it",
            task.id,
            error,
            extra=about_task(task),
        )


def _committed(engine: Engine, task: Task) -> Task | None:
    with engine.execution_options(photojobs_read=True).connect() as connection:
        return TasksRepository(connection).get_by_id(task.id)


def _is_current(found: Task | None, task: Task) -> bool:
    """Whether a row is as new as the task, or newer; a task that is retried had a final row before."""
    return found is not None and (not found.is_final or found.updated_at > task.updated_at)
