"""The record of a task run in Prefect: its states, sent as events.

In Prefect 3 the client sets the states of a task run, and the server records them from events. This module builds the
same events as `prefect.task_engine`, so that many can be sent together. A test compares the results on a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import Task
from prefect.client.schemas.objects import FlowRun, RunInput, State, TaskRun, TaskRunPolicy
from prefect.context import TagsContext
from prefect.events.related import tags_as_related_resources
from prefect.states import Pending
from prefect.utilities.engine import link_state_to_task_run_result
from prefect.utilities.text import truncated_to

#: Longer messages of states are truncated to this number of characters.
_LONGEST_MESSAGE = 100_000

#: An event names the previous event of the task run if the previous event is not older than this.
_FOLLOWS_WITHIN = timedelta(minutes=5)

#: Fields of a task run that are not sent, because the server knows or computes them.
_NOT_SENT = {
    "id",
    "created",
    "updated",
    "flow_run_id",
    "state_id",
    "state_type",
    "state_name",
    "state",
    "estimated_start_time_delta",
    "estimated_run_time",
}


class TaskRunRecord:
    """One task run of a flow run. It begins in the state Pending.

    Args:
        task: the Prefect task.
        parameters: the arguments with which the task was called, as plain values.
        dependencies: the runs that produced each parameter.
        flow_run: the flow run of the task run.
        send: sends the body of an event.
    """

    def __init__(
        self,
        task: Task[..., Any],
        parameters: Mapping[str, Any],
        dependencies: Mapping[str, set[RunInput]],
        flow_run: FlowRun,
        send: Callable[[dict[str, Any]], None],
    ) -> None:
        self._send = send
        self._flow_run = flow_run
        self._last: tuple[UUID, Any] | None = None
        self.state: State[Any] = Pending()
        created_at: Any = self.state.timestamp
        inputs: dict[str, Any] = {name: list(dependencies.get(name, ())) for name in parameters}
        self.task_run = TaskRun(
            name=str(task.task_run_name).format(**parameters),
            flow_run_id=flow_run.id,
            task_key=task.task_key,
            dynamic_key=str(uuid4()),
            task_version=task.version,
            empirical_policy=TaskRunPolicy(
                retries=task.retries,
                retry_delay=task.retry_delay_seconds,
                retry_jitter_factor=task.retry_jitter_factor,
            ),
            tags=list(task.tags | TagsContext.get().current_tags),
            task_inputs=inputs,
            expected_start_time=created_at,
        )
        self._note(self.state)
        self._send_state(before=None)

    def set_state(self, state: State[Any]) -> None:
        """Set the next state, at its timestamp, and send it."""
        before, task_run = self.state, self.task_run
        if state.timestamp <= before.timestamp:
            # The server orders states by timestamp, and keeps the latest. So each state gets a later time than the last
            # one.
            state.timestamp = before.timestamp + timedelta(microseconds=1)
        self._note(state)
        at: Any = state.timestamp
        if before.is_running():
            task_run.total_run_time += state.timestamp - before.timestamp
        if state.is_running():
            task_run.run_count += 1
            if task_run.start_time is None:
                task_run.start_time = at
                task_run.flow_run_run_count = self._flow_run.run_count
        if state.is_final():
            # The result is None, because no other run uses a result of our task runs.
            link_state_to_task_run_result(state, None)
            task_run.end_time = at if task_run.start_time is not None else None
        self._send_state(before=before)

    def _note(self, state: State[Any]) -> None:
        state.state_details.task_run_id = self.task_run.id
        state.state_details.flow_run_id = self.task_run.flow_run_id
        self.state = self.task_run.state = state
        self.task_run.state_id, self.task_run.state_type, self.task_run.state_name = state.id, state.type, state.name

    def _send_state(self, *, before: State[Any] | None) -> None:
        state, task_run = self.state, self.task_run
        body: dict[str, Any] = {
            "id": str(state.id),
            "occurred": state.timestamp.isoformat(),
            "event": f"prefect.task-run.{state.name}",
            "resource": {
                "prefect.resource.id": f"prefect.task-run.{task_run.id}",
                "prefect.resource.name": task_run.name,
                "prefect.run-count": str(task_run.run_count),
                "prefect.state-message": _message(state) or "",
                "prefect.state-name": state.name or "",
                "prefect.state-timestamp": state.timestamp.isoformat(),
                "prefect.state-type": state.type.value,
                # Without this key the server would not record the state from the event.
                "prefect.orchestration": "client",
            },
            "related": [tag.model_dump() for tag in tags_as_related_resources(task_run.tags)],
            "payload": {
                "intended": {"from": None if before is None else before.type.value, "to": state.type.value},
                "initial_state": None if before is None else _as_json(before),
                "validated_state": _as_json(state) | {"data": None},
                "task_run": task_run.model_dump(mode="json", exclude_none=True, exclude=_NOT_SENT),
            },
        }
        if self._last is not None and state.timestamp - self._last[1] < _FOLLOWS_WITHIN:
            body["follows"] = str(self._last[0])
        self._last = state.id, state.timestamp
        self._send(body)


def _as_json(state: State[Any]) -> dict[str, Any]:
    details = state.state_details.model_dump(
        mode="json", exclude_none=True, exclude_unset=True, exclude={"flow_run_id", "task_run_id"}
    )
    return {"type": state.type.value, "name": state.name, "message": _message(state), "state_details": details}


def _message(state: State[Any]) -> str | None:
    return truncated_to(_LONGEST_MESSAGE, state.message)
