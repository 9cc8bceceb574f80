"""Ends flow runs that a user canceled while no process ran them, and their tasks.

`deployments.serving.flow_run_recovery` calls this module. `flows.orchestration.cancellation_watch` notices the
cancellation of a flow run that has a process.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

from deployments.serving.our_flow_runs import has_ended_within, our_runs
from flows.orchestration.server_clock import NO_LEAD
from flows.orchestration.task_flow import cancel_task_of, task_of
from storage.database.engine import Database
from storage.queue.tasks import TasksRepository
from storage.records import Task

#: After this long in Prefect's state `Cancelling`, a run counts as a run without a process that could end it.
CANCELING_SECONDS = 45

#: After Prefect's server itself has canceled a run, the run's task is checked for this long. Later, the task is found
#: because no process follows it.
CANCELED_WITHIN = timedelta(minutes=10)


def end_canceled_runs(client: SyncPrefectClient, database: Database, *, lead: timedelta = NO_LEAD) -> None:
    """End canceled flow runs without a process, which Prefect would leave in `Cancelling`.

    Such a run had not begun, was paused, or had lost its process. If Prefect's server has ended a run itself, this
    function cancels the run's task. `lead` is the result of `server_lead`.
    """
    tasks = TasksRepository(database)
    long_ago = database.clock() + lead - timedelta(seconds=CANCELING_SECONDS)
    for run in our_runs(client, StateType.CANCELLING):
        # If a runner has a process for this run, the runner ends the run within seconds. A process that is just
        # starting would start a `Cancelled` run in spite of the user, but not one in `Cancelling`. So a run is ended
        # here only if it has been in `Cancelling` for long.
        if run.state is not None and run.state.timestamp < long_ago:
            end_as_canceled(client, tasks, run, task_of(run, tasks))
    for run in our_runs(client, StateType.CANCELLED, end_time=has_ended_within(CANCELED_WITHIN)):
        task = task_of(run, tasks)
        if _is_left_unended(task, run, lead):
            end_as_canceled(client, tasks, run, task)


def end_as_canceled(client: SyncPrefectClient, tasks: TasksRepository, run: FlowRun, task: Task | None) -> None:
    """End a canceled flow run and its task, as `cancel_task_of` does."""
    cancel_task_of(run, task, tasks)
    if run.state is not None and run.state.type != StateType.CANCELLED:
        client.set_flow_run_state(
            run.id, Cancelled(message="canceled while no process executed the flow run"), force=True
        )


def _is_left_unended(task: Task | None, run: FlowRun, lead: timedelta) -> bool:
    """Return True if the task of a canceled flow run has not ended, and no process has changed or followed it since."""
    if task is None or task.is_final or task.flow_run_id != str(run.id) or run.state is None:
        return False
    return max(task.updated_at, task.attended_at or task.updated_at) + lead < run.state.timestamp
