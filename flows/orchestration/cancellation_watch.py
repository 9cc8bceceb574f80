"""The watch that notices when a flow run is canceled, paused or resumed in Prefect.

Prefect's runners and workers end the process of a canceled run. But for a run in the caller's own process, and for
every paused run, Prefect only changes the state: without this watch, the work would continue. The watch calls
`flows.execution.task_stops`, which cancels or pauses the task.

If Prefect ends the process, `cancel_with_flow_run` in `flows.orchestration.task_flow` cancels the task. If no process
runs the flow run, `end_canceled_runs` in `deployments.serving.canceled_runs` ends the flow run and its task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType

from flows.orchestration.prefect_link import link

#: The time between two reads of the run's state.
WATCH_SECONDS = 2.0


class CancellationWatch:
    """Watches a flow run in the background. Use it as a context manager around the run's work.

    Args:
        flow_run_id: the id of the run; None outside of a flow run, which disables the watch.
        cancel: called in the watching thread when the run was canceled. If `cancel` raises an error, the error is
            logged, and `cancel` is called again after `WATCH_SECONDS`.
        pause: called in the same way when the run was paused. Its argument is True if this process must end: a
            suspended run of a deployment is resumed in another process.
        resume: called when a paused run goes on in this process.

    Attributes:
        suspended: the state with which this process is to end; None unless `pause` was called with True.
    """

    def __init__(
        self,
        flow_run_id: str | None,
        cancel: Callable[[], object],
        *,
        pause: Callable[[bool], object],
        resume: Callable[[], object] = lambda: None,
    ) -> None:
        self.suspended: State[Any] | None = None
        self._flow_run_id = flow_run_id
        self._cancel = cancel
        self._pause = pause
        self._resume = resume
        self._is_paused = False
        self._stopped = threading.Event()
        self._asking = ExitStack()

    def __enter__(self) -> Self:
        if self._flow_run_id:
            self._asking.enter_context(
                link.asking(self._look, every_seconds=WATCH_SECONDS, first_after_seconds=WATCH_SECONDS)
            )
        return self

    def __exit__(self, *_: object) -> None:
        # The exit does not wait for a read in progress, because the server may be unavailable.
        self._stopped.set()
        self._asking.close()

    def _look(self, client: SyncPrefectClient) -> bool:
        run = client.read_flow_run(UUID(self._flow_run_id))
        return not self._stopped.is_set() and self._is_over(run, client)

    def _is_over(self, run: FlowRun, client: SyncPrefectClient) -> bool:
        """Call `cancel`, `pause` or `resume` if the run's state demands it. Return whether the watch is over."""
        state = run.state
        if state is None:
            return False
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            self._cancel()
            return True
        if state.type == StateType.PAUSED:
            must_end = bool(state.state_details.pause_reschedule) and run.deployment_id is not None
            if state.state_details.pause_reschedule and not must_end:
                # The Pause button of the UI suspends a run. Prefect can resume a suspended run only if the run has a
                # deployment. This run has none, so its state is changed from suspended to paused.
                details = StateDetails(pause_timeout=state.state_details.pause_timeout, pause_reschedule=False)
                paused: State[Any] = State(type=StateType.PAUSED, name="Paused", state_details=details)
                client.set_flow_run_state(run.id, paused, force=True)
            if not self._is_paused or must_end:
                # `suspended` is set before the call, because `_pause` stops the work in another thread, and that thread
                # then reads `suspended`.
                self.suspended = state if must_end else None
                self._pause(must_end)
                self._is_paused = True
            return must_end
        if self._is_paused:
            self._resume()
            self._is_paused = False
        return False
