"""Sees to it that everything in the database is attended by a flow run: tasks whose run died, jobs without a task.

It asks Prefect, and runs nothing itself. What it finds it finds in the tables, so it needs to remember nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled

from flows.process.runtime import Runtime
from flows.starting.deployment_names import DRAIN_PATH, TAG
from flows.starting.prefect_requests import request_drain, request_flow_run
from flows.telemetry.log_fields import about_task
from storage.database.engine import Database
from storage.lifecycle.heartbeats import ATTENDANCE_SECONDS
from storage.queue.jobs import JobsRepository
from storage.queue.pauses import pause_task
from storage.queue.tasks import TasksRepository
from storage.records import Task

logger = logging.getLogger("photojobs.attendant")

#: A scheduled run that is so late was missed: nothing ran when it was due.
MISSED_SECONDS = 60

#: Flow runs that Prefect's server gives at a time, at most.
_PAGE_SIZE = 200

#: A run that died before it wrote its task is started again so often, and only if it died so short a time ago.
MAX_RESTARTS = 3
RESTART_WITHIN = timedelta(days=1)

#: A run that Prefect says is being canceled for so long has no process that could end it.
CANCELING_SECONDS = 45

#: Of runs that Prefect's server ended as canceled itself, those of so short a time ago are looked at. The tasks of
#: others are found when nothing has attended them for a while.
CANCELED_WITHIN = timedelta(minutes=10)

#: A process that Prefect says is pending has so long to begin its flow run, until a second one is started.
START_SECONDS = 60

_UNFINISHED = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)


def attend(runtime: Runtime) -> None:
    """Look once: revive dead flow runs, ask for missing ones, and have standalone jobs worked off."""
    silent_seconds = max(ATTENDANCE_SECONDS, 3 * runtime.settings.heartbeat_seconds)
    tasks = TasksRepository(runtime.database)
    with get_client(sync_client=True) as client:
        _attend_tasks(client, runtime, tasks.list_unattended(silent_seconds=silent_seconds))
        restart_crashed_runs(client, tasks)
        end_canceled_runs(client, tasks)
        if JobsRepository(runtime.database).list_ready(limit=1, standalone=True) and not _drains(client):
            request_drain()


def skip_missed_runs() -> int:
    """Of the scheduled runs that were missed while nothing ran, keep the latest of each schedule; returns how many."""
    with get_client(sync_client=True) as client:
        missed = all_flow_runs(
            client,
            FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(
                    before_=datetime.now(UTC) - timedelta(seconds=MISSED_SECONDS)  # type: ignore[arg-type]
                ),
            ),
        )
        by_schedule: dict[tuple[UUID | None, str], list[FlowRun]] = defaultdict(list)
        for run in missed:
            if run.auto_scheduled:
                by_schedule[run.deployment_id, str(run.parameters.get("tenant_id"))].append(run)
        skipped = 0
        for runs in by_schedule.values():
            runs.sort(key=lambda run: run.expected_start_time or datetime.min.replace(tzinfo=UTC))
            for run in runs[:-1]:
                client.set_flow_run_state(
                    run.id,
                    Cancelled(name="Skipped", message="Missed while nothing ran; the latest missed run runs instead."),
                    force=True,
                )
                skipped += 1
    return skipped


def revive_runs_left_behind(runtime: Runtime) -> int:
    """Have flow runs go on that have no task when what ran them died, so that `attend` does not find them.

    They were about to write it, make plans, or work off standalone jobs. Call it before anything is run here. Runs of
    work pools are left to Prefect's workers. Returns how many there were.
    """
    tasks = TasksRepository(runtime.database)
    with get_client(sync_client=True) as client:
        begun = all_flow_runs(
            client,
            FlowRunFilter(
                tags=FlowRunFilterTags(all_=[TAG]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])),
            ),
        )
        left = [run for run in begun if run.work_pool_name is None and tasks.get_by_id(_task_id(run)) is None]
        for run in left:
            client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
    return len(left)


def restart_crashed_runs(client: SyncPrefectClient, tasks: TasksRepository) -> int:
    """Start runs again whose process died before it wrote their task; returns how many there were.

    A run that has its task is found by that task. Runs of work pools are left to their workers.
    """
    crashed = all_flow_runs(
        client,
        FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
            end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - RESTART_WITHIN),  # type: ignore[arg-type]
        ),
    )
    restarted = 0
    for run in crashed:
        if run.deployment_id is None or run.work_pool_name is not None or tasks.get_by_id(_task_id(run)) is not None:
            continue
        crashes = sum(state.type == StateType.CRASHED for state in client.read_flow_run_states(run.id))
        if crashes <= MAX_RESTARTS:
            logger.info("flow run %s died before it began; it is started again", run.name)
            client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
            restarted += 1
    return restarted


def all_flow_runs(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """The flow runs that a filter means, however many; Prefect's server gives a page at a time."""
    found: dict[UUID, FlowRun] = {}
    offset = 0
    while page := client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE_SIZE, offset=offset
    ):
        found.update({run.id: run for run in page})
        offset += len(page)
        if len(page) < _PAGE_SIZE:
            break
    return list(found.values())


def end_canceled_runs(client: SyncPrefectClient, tasks: TasksRepository) -> None:
    """End flow runs that were canceled while no process ran them, which Prefect leaves in `Cancelling` for ever.

    Those are runs that had not begun, runs that were paused, and runs whose process has died. A paused run whose task
    was canceled from our side ends as well. Some of those runs Prefect's server ends itself; then their tasks end.
    """
    stopped = all_flow_runs(
        client,
        FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.PAUSED])),
        ),
    )
    long_ago = datetime.now(UTC) - timedelta(seconds=CANCELING_SECONDS)
    for run in stopped:
        if run.state is None:
            continue
        if run.state.type == StateType.PAUSED:
            task = tasks.get_by_id(_task_id(run))
            is_over = task is not None and task.is_final
        else:
            # A runner that has its process ends it within seconds.
            is_over = run.start_time is None or run.state.timestamp < long_ago
        if is_over:
            _end_as_canceled(client, tasks, run)
    canceled = all_flow_runs(
        client,
        FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED])),
            end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - CANCELED_WITHIN),  # type: ignore[arg-type]
        ),
    )
    for run in canceled:
        if _is_left_unended(tasks.get_by_id(_task_id(run)), run):
            _end_as_canceled(client, tasks, run)


def _is_left_unended(task: Task | None, run: FlowRun) -> bool:
    """Whether nothing has seen to the task of a canceled flow run, nor has the task been run again since."""
    if task is None or task.is_final or task.flow_run_id != str(run.id) or run.state is None:
        return False
    return max(task.updated_at, task.attended_at or task.updated_at) < run.state.timestamp


def _end_as_canceled(client: SyncPrefectClient, tasks: TasksRepository, run: FlowRun) -> None:
    reason = "its flow run was canceled"
    if tasks.get_by_id(_task_id(run)) is not None:
        tasks.cancel(_task_id(run), reason=reason)
    if run.state is not None and run.state.type != StateType.CANCELLED:
        client.set_flow_run_state(run.id, Cancelled(message="canceled while no process ran it"), force=True)


def _task_id(run: FlowRun) -> str:
    return run.parameters.get("task_id") or str(run.id)


def _attend_tasks(client: SyncPrefectClient, runtime: Runtime, unattended: list[Task]) -> None:
    if not unattended:
        return
    known = {task.flow_run_id for task in unattended}
    under_way = sum(str(run.id) not in known or _will_begin(run) for run in runs_under_way(client))
    runs = _flow_runs(client, unattended)
    most = runtime.settings.max_flow_runs
    for task in unattended:
        run = runs.get(task.flow_run_id)
        under_way += _attend_task(client, runtime.database, task, run, may_start=under_way < most)


def runs_under_way(client: SyncPrefectClient) -> list[FlowRun]:
    """The flow runs of ours on this machine that are due, begin or run for Prefect, those of dead processes too."""
    states = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
    )
    due = FlowRunFilterExpectedStartTime(before_=datetime.now(UTC))  # type: ignore[arg-type]
    ours = FlowRunFilterTags(all_=[TAG])
    found = all_flow_runs(client, FlowRunFilter(tags=ours, state=states, expected_start_time=due))
    return [run for run in found if run.work_pool_name is None]


def _will_begin(run: FlowRun) -> bool:
    """Whether a flow run that does not attend its task yet will do so, as far as one can know."""
    state = run.state
    if state is None or state.type == StateType.SCHEDULED:
        return state is not None
    return state.type == StateType.PENDING and state.timestamp > datetime.now(UTC) - timedelta(seconds=START_SECONDS)


def _attend_task(
    client: SyncPrefectClient, database: Database, task: Task, run: FlowRun | None, *, may_start: bool
) -> bool:
    """See to one task and its flow run; returns whether a flow run of it will be started."""
    tasks = TasksRepository(database)
    state = None if run is None else run.state
    if run is None or state is None or state.type == StateType.COMPLETED:
        flow_run_id = request_flow_run(task) if may_start else None
        if flow_run_id is not None and flow_run_id != task.flow_run_id:
            tasks.link_flow_run(task.id, flow_run_id)
        return flow_run_id is not None
    if state.type in (StateType.CANCELLED, StateType.CANCELLING):
        _end_as_canceled(client, tasks, run)
    elif state.type == StateType.PAUSED:
        pause_task(database, task.id)
    elif may_start and not _will_begin(run):
        # Its process has died: the same flow run goes on, and with it the same task.
        logger.info("task %s: its flow run died; it goes on", task.id, extra=about_task(task))
        client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
        return True
    return False


def _flow_runs(client: SyncPrefectClient, unattended: Iterable[Task]) -> dict[str | None, FlowRun]:
    """The flow runs of tasks by their ids, as many as there still are."""
    ids = []
    for task in unattended:
        with suppress(TypeError, ValueError):
            ids.append(UUID(task.flow_run_id))
    if not ids:
        return {}
    return {str(run.id): run for run in all_flow_runs(client, FlowRunFilter(id=FlowRunFilterId(any_=ids)))}


def _drains(client: SyncPrefectClient) -> bool:
    try:
        deployment = client.read_deployment_by_name(DRAIN_PATH)
    except ObjectNotFound:
        return True
    return bool(
        client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_UNFINISHED))),
            ),
            limit=1,
        )
    )
