"""Collects the content of a picture of a definition: its steps, their lanes and jobs, and for a task their progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.lanes import lane_name, lane_of
from storage.records import Lane, TaskStatus
from storage.reports.task_summary import StepSummary, TaskSummary
from task_definitions import TaskDefinition
from task_definitions.model import MAX_ITEMS_PER_JOB
from task_definitions.step_types import StepType
from task_definitions.wording import quantity

State = Literal["completed", "running", "queued", "failed", "canceled", "waiting", "skipped"]

#: The symbol of each state in texts.
SYMBOLS: Mapping[State, str] = {
    "completed": "✓",
    "running": "▶",
    "queued": "…",
    "failed": "✗",
    "canceled": "⊘",
    "waiting": "·",
    "skipped": "-",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The progress of a step of a task.

    Attributes:
        state: the state of the whole step.
        jobs: the number of jobs in each status.
        items: the number of items in each status.
        seconds: the time from the first start of a job to the last end; None until a job has ended.
    """

    state: State
    jobs: dict[str, int]
    items: dict[str, int]
    seconds: float | None = None

    @property
    def says(self) -> str:
        """The numbers of jobs and items, and of failed ones, as a text."""
        return ", ".join(part for part in (_counted(self.jobs, "job"), _counted(self.items, "item")) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStep:
    """A step of a definition, or all follow-up jobs of one type.

    Attributes:
        index: the position of the step in the definition; for follow-up jobs, the number of the definition's steps.
        fans_out: whether the step has one job for each chunk of its photos; for follow-up jobs, whether there are
            several.
        chunk_size: the largest number of photos in a job, if the step fans out.
        is_follow_up: whether handlers requested these jobs, which are not in the definition.
        activity: the progress in a task; None in the picture of a definition.
    """

    index: int
    type: str
    summary: str
    priority: int
    lane: str
    fans_out: bool
    chunk_size: int
    stops_on_failure: bool
    run_if: str | None = None
    is_follow_up: bool = False
    activity: Activity | None = None

    @property
    def fan_out(self) -> str:
        """The number of the step's jobs as a text."""
        if not self.fans_out:
            return "one job"
        return "a job for each photo" if self.chunk_size == 1 else f"a job for each {self.chunk_size} photos"

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the picture: on which condition the step runs, and whether its failure stops the task."""
        notes = [] if self.run_if is None else [f"only if {self.run_if}"]
        if self.is_follow_up:
            notes.append("follow-up, requested by a step")
        elif self.stops_on_failure:
            notes.append("a failure stops the task here")
        return tuple(notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionGraph:
    """The content of a picture of a definition or of a task; the steps are in the order in which they run.

    Attributes:
        lanes: the lanes of the steps, the highest first.
        task: the id and the status of the task; None for a definition.
    """

    name: str
    label: str
    scope: str
    lanes: tuple[str, ...]
    steps: tuple[GraphStep, ...]
    task: tuple[str, str] | None = None

    @property
    def title(self) -> str:
        """The label, the name and the scope, and for a task its id and status."""
        return f"{self.label} ({self.name}, {self.scope}){self._of_task}"

    @property
    def subtitle(self) -> str:
        """The title without the label."""
        return f"{self.name}, {self.scope}{self._of_task}"

    @property
    def _of_task(self) -> str:
        return "" if self.task is None else f", task {self.task[0]}: {self.task[1]}"


def graph_of_definition(definition: TaskDefinition, step_types: Mapping[str, StepType]) -> DefinitionGraph:
    """Return the graph of a definition with the lanes of a new database.

    Raises:
        KeyError: `step_types` lacks a type of the definition.
    """
    pinned = PinnedDefinition.pin(definition, step_types)
    steps = tuple(_step(pinned, index, step_types, ()) for index in range(len(pinned.steps)))
    return DefinitionGraph(
        name=definition.name,
        label=definition.label,
        scope=definition.scope or "project or photo_set",
        lanes=_lanes_in_order(steps, ()),
        steps=steps,
    )


def graph_of_task(
    summary: TaskSummary, step_types: Mapping[str, StepType], *, lanes: Sequence[Lane]
) -> DefinitionGraph:
    """Return the graph of the definition that a task was started with, with the progress of each step."""
    task = summary.task
    pinned = PinnedDefinition.from_json(task.definition_json)
    done = {step.step_index: step for step in summary.steps if step.step_index < pinned.follow_up_index}
    steps = [
        _step(pinned, index, step_types, lanes, activity=_activity(done.get(index), index, summary))
        for index in range(len(pinned.steps))
    ]
    steps += [
        GraphStep(
            index=step.step_index,
            type=step.type,
            summary=_summary_of(step.type, step_types),
            priority=step.priority,
            lane=_lane_of(step.priority, lanes),
            fans_out=step.total_jobs > 1,
            chunk_size=MAX_ITEMS_PER_JOB,
            stops_on_failure=False,
            is_follow_up=True,
            activity=_activity(step, step.step_index, summary),
        )
        for step in summary.steps
        if step.step_index >= pinned.follow_up_index
    ]
    return DefinitionGraph(
        name=task.type,
        label=task.label,
        scope=task.scope,
        lanes=_lanes_in_order(steps, lanes),
        steps=tuple(steps),
        task=(task.id, task.status),
    )


def _step(
    pinned: PinnedDefinition,
    index: int,
    step_types: Mapping[str, StepType],
    lanes: Sequence[Lane],
    *,
    activity: Activity | None = None,
) -> GraphStep:
    step = pinned.steps[index]
    return GraphStep(
        index=index,
        type=step.type,
        summary=_summary_of(step.type, step_types),
        priority=step.definition.priority,
        lane=_lane_of(step.definition.priority, lanes),
        fans_out=step.unit == "items",
        chunk_size=step.definition.chunk_size,
        stops_on_failure=step.definition.on_failure == "stop" and index + 1 < len(pinned.steps),
        run_if=step.definition.run_if,
        activity=activity,
    )


def _summary_of(type: str, step_types: Mapping[str, StepType]) -> str:
    # The step type may belong to a package that is not installed here, but on the machine that started the task.
    return step_types[type].summary if type in step_types else ""


def _lane_of(priority: int, lanes: Sequence[Lane]) -> str:
    if not lanes:
        return lane_name(priority)
    return found.name if (found := lane_of(priority, lanes)) else "none"


def _lanes_in_order(steps: Iterable[GraphStep], lanes: Sequence[Lane]) -> tuple[str, ...]:
    used = {step.lane for step in steps}
    known = [lane.name for lane in lanes] or ["priority", "normal"]
    return tuple([name for name in known if name in used] + sorted(used - set(known)))


def _activity(step: StepSummary | None, index: int, summary: TaskSummary) -> Activity:
    if step is None:
        task = summary.task
        is_ahead = index > task.step_index and task.status in (TaskStatus.QUEUED, TaskStatus.RUNNING)
        return Activity(state="waiting" if is_ahead else "skipped", jobs={}, items={})
    return Activity(state=_state(step.jobs), jobs=step.jobs, items=step.items, seconds=step.seconds)


def _state(jobs: Mapping[str, int]) -> State:
    states: tuple[State, ...] = ("running", "queued", "failed", "canceled")
    if jobs.get("queued") and (jobs.get("completed") or jobs.get("failed")):
        return "running"
    return next((state for state in states if jobs.get(state)), "completed")


def _counted(counts: Mapping[str, int], noun: str) -> str:
    total = sum(counts.values())
    if not total:
        return ""
    finished = ("completed", "done", "skipped")
    ended = sum(counts.get(status, 0) for status in finished)
    failed = counts.get("failed", 0)
    said = quantity(total, noun) if ended + failed == total else f"{ended}/{quantity(total, noun)}"
    return said + (f" ({failed} failed)" if failed else "")
