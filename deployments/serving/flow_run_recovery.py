"""Finds tasks whose flow run died, and asks Prefect to run them.

The module also reports to Prefect the end of tasks whose flow run died. It runs no job itself. `deployments.serving.up`
decides how often it searches. `deployments.serving.canceled_runs` ends canceled flow runs,
`deployments.serving.drain_requests` asks for runs of standalone jobs, and `storage.queue.rescue` queues the jobs of
dead processes again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Crashed

from deployments.deploying.definitions_on_server import all_deployments
from deployments.serving.canceled_runs import end_as_canceled, end_canceled_runs
from deployments.serving.our_flow_runs import (
    PAGE_SIZE,
    all_flow_runs,
    has_ended_within,
    is_due,
    our_runs,
    was_due_before,
)
from flows.execution.sweep import DOUBT_HEARTBEATS
from flows.orchestration.server_clock import NO_LEAD, server_lead
from flows.orchestration.task_flow import RESTARTED, final_state, task_of
from flows.process.retry_delay import backoff_seconds
from flows.process.runtime import Runtime
from flows.starting.deployment_names import MISSING_TAG
from flows.starting.prefect_requests import request_flow_run
from flows.telemetry.log_fields import about_task
from storage.batches import batched
from storage.database.engine import Database
from storage.errors import CorruptDefinition
from storage.lifecycle.heartbeats import WAITER_STALE_SECONDS
from storage.queue.pauses import pause_task
from storage.queue.tasks import TasksRepository
from storage.records import Task
from storage.reports.task_summary import summarize_task

logger = logging.getLogger("photojobs.recovery")

#: A run that crashed before it wrote its task is restarted at most `MAX_RESTARTS` times, and only if it crashed less
#: than `RESTART_WITHIN` ago.
MAX_RESTARTS = 3
RESTART_WITHIN = timedelta(days=1)

#: If the flow run of an unfinished task was restarted more than `MAX_RESTARTS` times within this time, its next restart
#: is delayed. After a crash of Drain Queue within this time, its next run is delayed, too; see `drain_requests`.
RECENTLY = timedelta(hours=1)
#: The shortest and the longest of these delays, in seconds. The delay doubles with each further restart or crash.
RESTART_DELAYS = (30.0, 600.0)

#: The time after the end of its task in which a live flow run must report that end to Prefect.
REPORT_SECONDS = 60

#: How long a run of a runner may be `Pending` before a second process is started for it.
START_SECONDS = 60

#: The same for a run of a work pool. It is longer, because the image of the container may have to be downloaded first.
POOL_START_SECONDS = 900


class FlowRunRecovery:
    """Searches for flow runs that died, were canceled or are missing, each time `search` is called.

    Args:
        runtime: the runtime of this process.
        doubts: whether a process counts as dead only if two searches, more than one heartbeat interval apart, find the
            same last heartbeat. After the machine has slept, or the database was unavailable, no task has a recent
            heartbeat until its process writes one.
    """

    def __init__(self, runtime: Runtime, *, doubts: bool = True) -> None:
        self._settings = runtime.settings
        self._database = runtime.database
        self._tasks = TasksRepository(runtime.database)
        self._doubts = doubts
        #: When a task with this last heartbeat was first found, on the monotonic clock.
        self._silent_since: dict[tuple[str, datetime | None], float] = {}
        #: The ids of the paused states because of which tasks were put on hold. Each state causes only one hold, so a
        #: task that a user releases stays released.
        self._paused: set[UUID] = set()
        #: The types of tasks for which Prefect started no flow run in this search, which does not ask again for them.
        self._refused: set[str] = set()

    def search(self) -> None:
        """Restart dead flow runs, end canceled ones, and request missing ones."""
        with get_client(sync_client=True) as client:
            begun, lead = begun_runs(client), server_lead(client, self._database)
            restart_dead_runs(client, self._database, begun, lead=lead)
            report_ended_tasks(client, self._database, begun, lead=lead)
            end_canceled_runs(client, self._database, lead=lead)
            self._recover_tasks(client, self._unfollowed_tasks(), lead)

    def _unfollowed_tasks(self) -> list[Task]:
        """Return the unfinished tasks that no process follows."""
        heartbeat_seconds, now = self._settings.heartbeat_seconds, time.monotonic()
        silent_seconds = max(WAITER_STALE_SECONDS, 3 * heartbeat_seconds)
        tasks = self._tasks.list_unfollowed(silent_seconds=silent_seconds)
        found = {(task.id, task.attended_at): task for task in tasks}
        self._silent_since = {key: self._silent_since.get(key, now) for key in found}
        certain_from = now - DOUBT_HEARTBEATS * heartbeat_seconds
        return [
            task
            for key, task in found.items()
            if not self._doubts or task.attended_at is None or self._silent_since[key] <= certain_from
        ]

    def _recover_tasks(self, client: SyncPrefectClient, unfollowed: list[Task], lead: timedelta) -> None:
        if not unfollowed:
            return
        known = {task.flow_run_id for task in unfollowed}
        active, runs = runs_under_way(client), _flow_runs(client, unfollowed)
        served = _served(client, [*active, *runs.values()])
        now = self._database.clock() + lead
        beginning = {run.id for run in [*active, *runs.values()] if _will_begin(run, served, now)}
        under_way = sum(
            run.id in beginning if str(run.id) in known or run.state_type == StateType.SCHEDULED else True
            for run in active
        )
        self._refused.clear()
        for task in unfollowed:
            run, may_start = runs.get(task.flow_run_id), under_way < self._settings.max_flow_runs
            try:
                under_way += self._recover_task(
                    client, task, run, served=served, beginning=beginning, may_start=may_start
                )
            except CorruptDefinition as error:
                _warn_once(task.id, str(error))

    def _recover_task(
        self,
        client: SyncPrefectClient,
        task: Task,
        run: FlowRun | None,
        *,
        served: Collection[UUID],
        beginning: Collection[UUID],
        may_start: bool,
    ) -> bool:
        """Restart or request the flow run of a task that no process follows, or cancel or hold the task.

        Return True if a flow run starts; without `may_start`, none starts.
        """
        state = None if run is None else run.state
        if run is None or state is None or state.type == StateType.COMPLETED:
            return may_start and self._continue_in_new_run(client, task, None)
        if state.type in (StateType.CANCELLED, StateType.CANCELLING):
            end_as_canceled(client, self._tasks, run, task)
        elif state.type == StateType.PAUSED:
            if state.id not in self._paused:
                pause_task(self._database, task.id)
                self._paused.add(state.id)
        elif may_start and run.deployment_id not in served:
            return self._continue_in_new_run(client, task, run)
        elif may_start and run.id not in beginning:
            # The process of the flow run died: Prefect restarts the same flow run, which continues the same task.
            delay = _restart_delay(client.read_flow_run_states(run.id))
            logger.info(
                "task %s: its flow run died; the flow run is restarted in %.0f s",
                task.id,
                delay,
                extra=about_task(task),
            )
            _restart(client, run, after_seconds=delay)
            return True
        return False

    def _continue_in_new_run(self, client: SyncPrefectClient, task: Task, dead: FlowRun | None) -> bool:
        """Request another flow run for a task, and show `dead` as `Crashed`; return True if a flow run starts."""
        flow_run_id = None if task.type in self._refused else request_flow_run(task)
        if flow_run_id is None:
            self._refused.add(task.type)
        if flow_run_id is None or flow_run_id == task.flow_run_id:
            return False
        self._tasks.link_flow_run(task.id, flow_run_id)
        if dead is not None:
            logger.info(
                "task %s: its flow run died and cannot be restarted, because its deployment is missing; another flow "
                "run continues the task",
                task.id,
                extra=about_task(task),
            )
            _show_as_crashed(
                client, dead, f"The process of this flow run died. Flow run {flow_run_id} continues the task."
            )
        return True


def revive_runs_left_behind(runtime: Runtime) -> int:
    """Restart flow runs whose runner died before they wrote or retried a task; return how many were restarted.

    Such a run was about to write its task, to retry an ended task, to make a plan, or to run standalone jobs.
    `FlowRunRecovery` cannot find it. Call this function before a runner starts. A run whose deployment is missing
    becomes `Crashed`. Runs of work pools are left to their workers.
    """
    tasks = TasksRepository(runtime.database)
    with get_client(sync_client=True) as client:
        lead = server_lead(client, runtime.database)
        begun = our_runs(client, StateType.PENDING, StateType.RUNNING)
        ours = [run for run in begun if run.work_pool_name is None]
        left = [run for run in ours if _has_begun_nothing(task_of(run, tasks), run.state, lead)]
        served = _served(client, left)
        for run in left:
            if run.deployment_id in served:
                _restart(client, run)
            else:
                _show_as_crashed(
                    client,
                    run,
                    "The process of this flow run died, and its deployment or definition was removed, so it cannot be "
                    "restarted. If you still have the definition, start it again.",
                )
    return sum(run.deployment_id in served for run in left)


def begun_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Return our flow runs that are `Pending`, `Running` or `Paused`, or crashed within the last `RESTART_WITHIN`."""
    crashed = our_runs(client, StateType.CRASHED, end_time=has_ended_within(RESTART_WITHIN))
    return [*our_runs(client, StateType.PENDING, StateType.RUNNING, StateType.PAUSED), *crashed]


def restart_dead_runs(
    client: SyncPrefectClient, database: Database, begun: Iterable[FlowRun], *, lead: timedelta = NO_LEAD
) -> int:
    """Restart runs whose process died before it wrote or retried their task; return how many were restarted.

    Prefect shows such a run as `Crashed`; or as `Pending`, if the runner could not report the death to Prefect's
    server. `FlowRunRecovery` restarts runs of unfinished tasks, and `report_ended_tasks` reports the end of ended
    tasks. Runs of work pools are left to their workers.
    """
    tasks = TasksRepository(database)
    restarted = 0
    left = [
        run for run in begun if run.state_type in (StateType.PENDING, StateType.CRASHED) and run.work_pool_name is None
    ]
    served = _served(client, left)
    for run in left:
        task = task_of(run, tasks)
        if run.deployment_id not in served or _will_begin(run, served, database.clock() + lead):
            continue
        if task is not None and not task.is_final:
            continue
        states = client.read_flow_run_states(run.id)
        crashes = sum(state.type == StateType.CRASHED for state in states)
        started = run.state if run.state_type == StateType.PENDING else _last_start(states)
        if crashes <= MAX_RESTARTS and _has_begun_nothing(task, started, lead):
            logger.info("flow run %s died before it began; it is restarted", run.name)
            _restart(client, run)
            restarted += 1
    return restarted


def report_ended_tasks(
    client: SyncPrefectClient, database: Database, begun: Iterable[FlowRun], *, lead: timedelta = NO_LEAD
) -> None:
    """Report to Prefect the end of each task whose flow run could not report it.

    Prefect shows a flow run that died as `Crashed`, or as `Running` if its runner died as well. A suspended run has
    no process; its task may have been canceled, or released from its hold and run by a worker.
    """
    tasks = TasksRepository(database)
    for run in begun:
        task = task_of(run, tasks)
        if task is None or task.finished_at is None or not task.is_final:
            continue
        if run.state is None or run.state.type == StateType.PENDING:
            continue
        if run.state.type == StateType.RUNNING:
            # The run's own process may still report the end.
            is_silent = task.finished_at < database.clock() - timedelta(seconds=REPORT_SECONDS)
            is_dead = is_silent and not _is_after_end(run.state, task, lead)
        elif run.state.type == StateType.PAUSED:
            is_dead = True
        else:
            is_dead = not _is_after_end(_last_start(client.read_flow_run_states(run.id)), task, lead)
        if is_dead:
            logger.info(
                "flow run %s could not report the end of task %s; this process reports it to Prefect now",
                run.name,
                task.id,
            )
            client.set_flow_run_state(run.id, final_state(summarize_task(database, task.id)), force=True)


def _has_begun_nothing(task: Task | None, started: State | None, lead: timedelta) -> bool:
    """Return True if a dead flow run has no task yet, or its task had ended before the flow run could begin."""
    if task is None or _is_after_end(started, task, lead):
        return True
    return task.is_final and started is not None and started.type == StateType.PENDING


def _is_after_end(state: State | None, task: Task, lead: timedelta) -> bool:
    """Return True if a flow run entered this state after its task had ended."""
    return state is not None and task.finished_at is not None and state.timestamp > task.finished_at + lead


def _last_start(states: Iterable[State]) -> State | None:
    """Return the latest state in which a process began the flow run; None if no process began it."""
    begun = (state for state in states if state.type == StateType.RUNNING)
    return max(begun, key=lambda state: state.timestamp, default=None)


@lru_cache(maxsize=1_000)
def _warn_once(task_id: str, reason: str) -> None:
    logger.warning("task %s: no flow run can be requested: %s Then cancel this task.", task_id, reason)


def _served(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> set[UUID]:
    """Return the ids of the deployments of these runs that are on the server and have a definition.

    Only runs of these deployments can start.
    """
    ids = {run.deployment_id for run in runs if run.deployment_id is not None}
    wanted = DeploymentFilter(id=DeploymentFilterId(any_=list(ids)))
    found = all_deployments(client, wanted) if ids else []
    return {deployment.id for deployment in found if MISSING_TAG not in deployment.tags}


def runs_under_way(client: SyncPrefectClient) -> list[FlowRun]:
    """Return our flow runs without a work pool that are `Scheduled`, `Pending` or `Running`, and whose time has come.

    The process of such a run may be dead, and its deployment may be missing.
    """
    states = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)
    found = our_runs(client, *states, expected_start_time=was_due_before(datetime.now(UTC)))
    return [run for run in found if run.work_pool_name is None and is_due(run)]


def _will_begin(run: FlowRun, served: Collection[UUID], now: datetime) -> bool:
    """Return True if a flow run that has not begun to work on its task will probably begin.

    `now` is the time by the clock of Prefect's server.
    """
    state = run.state
    if state is None or run.deployment_id not in served:
        return False
    if state.type == StateType.SCHEDULED:
        return True
    limit = timedelta(seconds=START_SECONDS if run.work_pool_name is None else POOL_START_SECONDS)
    return state.type == StateType.PENDING and state.timestamp > now - limit


def _restart(client: SyncPrefectClient, run: FlowRun, *, after_seconds: float = 0) -> None:
    due = datetime.now(UTC) + timedelta(seconds=after_seconds)
    client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=due, message=RESTARTED), force=True)


def _show_as_crashed(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    if run.state is None or not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def _restart_delay(states: Iterable[State]) -> float:
    """Return the seconds until a dead flow run starts again: 0 unless it died several times recently."""
    now = datetime.now(UTC)
    # Restarts are counted and not starts, because a process may also die before the run is `Running`.
    restarts = sum(state.message == RESTARTED and state.timestamp > now - RECENTLY for state in states)
    return 0 if restarts <= MAX_RESTARTS else delay_after(restarts - MAX_RESTARTS)


def delay_after(failures: int) -> float:
    """Return the seconds until the next start after so many restarts or crashes in a short time."""
    first, longest = RESTART_DELAYS
    return backoff_seconds(failures, first_seconds=first, longest_seconds=longest)


def _flow_runs(client: SyncPrefectClient, unfollowed: Iterable[Task]) -> dict[str | None, FlowRun]:
    """Return the flow runs of these tasks, by id. A flow run that was deleted in Prefect is left out."""
    ids = []
    for task in unfollowed:
        with suppress(TypeError, ValueError):
            ids.append(UUID(task.flow_run_id))
    filters = [FlowRunFilter(id=FlowRunFilterId(any_=page)) for page in batched(ids, PAGE_SIZE)]
    return {str(run.id): run for wanted in filters for run in all_flow_runs(client, wanted)}
