"""Asking Prefect for the flow run of a task when the task is there for everybody to see, and only then."""

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

#: A commit that takes longer has failed, as far as asking Prefect goes.
COMMIT_SECONDS = 30.0


def ask_now(tasks: TasksRepository, task: Task) -> str | None:
    """Ask Prefect for a flow run of a committed task and link the two; returns its id, or None without an answer."""
    flow_run_id = request_flow_run(task)
    if flow_run_id is not None and flow_run_id != task.flow_run_id:
        try:
            tasks.link_flow_run(task.id, flow_run_id)
        except StorageError as error:
            # The flow run links itself when it begins; the task is written, and its caller must not start it twice.
            logger.warning("task %s: its flow run could not be noted: %s", task.id, error, extra=about_task(task))
    return flow_run_id


def ask_after_commit(connection: Connection, task: Task) -> None:
    """Have Prefect asked for a flow run of a task when the transaction that wrote it commits; waits for nothing.

    It happens in a thread of its own. Where the transaction, or the savepoint that the task was written in, is rolled
    back, Prefect is not asked; nor is it through an asynchronous engine, whose connections belong to its event loop:
    `photojobs up` or a worker finds such a task.
    """
    engine = connection.engine
    if engine.dialect.is_async:
        return

    def ask(committing: Connection) -> None:
        # The event comes before the commit: to ask here would hold the caller's locks while Prefect answers, and
        # Prefect's flow run might look for a task that is not there yet.
        if _is_written(committing, task):
            threading.Thread(target=_ask_when_committed, args=(engine, task), name="photojobs-ask-prefect").start()

    event.listen(connection, "commit", ask, once=True)


def _is_written(connection: Connection, task: Task) -> bool:
    try:
        return _is_current(TasksRepository(connection).get_by_id(task.id), task)
    except (StorageError, SQLAlchemyError):
        # A statement of the transaction has failed, so its commit will be none.
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
    """Whether a row is the task as it was written, or newer; a task that is run again had a row that had ended."""
    return found is not None and (not found.is_final or found.updated_at > task.updated_at)
