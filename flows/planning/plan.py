"""Plans a task: runs it on a shadow, a copy of the rows and of the file names, and lists the changes made there."""

import errno
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.errors import FlowsError
from flows.execution.job_run import run_claimed_job
from flows.planning.changes import ACTIONS, Change, Owner, file_change, row_change
from flows.planning.saved_plan import writing_plan
from flows.planning.shadow import Shadow, shadow_for
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.starting.known_definitions import find_definition
from flows.starting.new_task import new_task
from storage.photos.photo_selection import PhotoSelection
from storage.photos.projects import ProjectsRepository
from storage.queue.claims import Claimant, claim_by_id, promote_due, rank
from storage.queue.new_tasks import NewTask
from storage.queue.tasks import TasksRepository
from storage.records import Job
from storage.reports.task_summary import MAX_EXAMPLES, StepSummary, summarize_task
from task_definitions import TaskDefinition
from task_definitions.wording import quantity

#: Largest number of projects of a step that have separate counts. The counts of the step include all projects.
MAX_PROJECTS = 200

#: A function that receives each change when it is found.
ChangeListener = Callable[[Change], None]


class PlanBroken(FlowsError):
    """A plan could not be made. Files and rows of the library have not changed."""


@dataclass(slots=True)
class Tally:
    """Counts the changes of a step or a project.

    Attributes:
        counts: the number of changes by action; `flows.planning.changes.ACTIONS` lists the actions.
        freed_bytes: the number of bytes that the changes free on the disk.
        examples: descriptions of the first changes of each action.
    """

    counts: Counter[str] = field(default_factory=Counter)
    freed_bytes: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, change: Change) -> None:
        """Add a change to the counts and examples."""
        self.counts[change.action] += 1
        self.freed_bytes += change.freed_bytes
        known = self.examples.setdefault(change.action, [])
        if len(known) < MAX_EXAMPLES:
            known.append(change.describe())

    def in_words(self) -> str:
        """Return the counts as text: `3 files to trash, 5 rows to change`."""
        return counted(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """The planned work of one step.

    Attributes:
        index: the index of the step. For follow-up work, it is the index after the last step.
        type: the step's type.
        status: how the jobs of the step would end: `completed`, `failed`, or `skipped` if the step would not run.
        tally: the counted changes of the step.
        projects: the counted changes of each project, for at most 200 projects.
        remarks: the counts in the step's report by kind, such as `skipped`, each with its first examples.
        errors: the reasons why jobs of the step would fail.
        left: for each file or photo that the step would leave unchanged, its name and the reason. For an undo, these
            are the files and rows that cannot be restored.
    """

    index: int
    type: str
    status: str
    tally: Tally
    projects: dict[str, Tally]
    remarks: dict[str, tuple[int, list[str]]]
    errors: tuple[str, ...]
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The changes that a task would make.

    Attributes:
        type: the definition's name.
        made_at: when the plan began, by the database's clock.
        steps: the steps in order, then one entry for each step type of follow-up work.
        saved_as: the file with all changes, if the plan was saved.
    """

    type: str
    label: str
    tenant_id: str
    scope: str
    project_id: int | None
    made_at: datetime
    steps: tuple[PlannedStep, ...]
    saved_as: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of changes of all steps, by action."""
        return dict(sum((step.tally.counts for step in self.steps), Counter()))

    @property
    def freed_bytes(self) -> int:
        """The number of bytes that all steps would free on the disk."""
        return sum(step.tally.freed_bytes for step in self.steps)

    @property
    def is_empty(self) -> bool:
        """Whether the task would change nothing."""
        return not self.counts

    @property
    def would_fail(self) -> bool:
        """Whether a job of the task would fail."""
        return any(step.status == "failed" for step in self.steps)

    @property
    def message(self) -> str:
        """A summary of the plan on one line."""
        failed = sum(step.status == "failed" for step in self.steps)
        doing = f"Plan: {counted(self.counts)}" if self.counts else "Plan: nothing to do"
        freed = f"; {self.freed_bytes:,} bytes to free" if self.freed_bytes else ""
        return doing + freed + (f"; {quantity(failed, 'step')} would fail" if failed else "")


def counted(counts: Mapping[str, int]) -> str:
    """Return the counts of changes as text, in the order of `ACTIONS`."""
    return ", ".join(
        f"{counts[action]:,} {words if counts[action] != 1 else words.replace('s to ', ' to ', 1)}"
        for action, words in ACTIONS.items()
        if counts.get(action)
    )


def plan_task(
    *,
    type: str | TaskDefinition,
    tenant_id: str,
    scope: str | None = None,
    project_id: int | None = None,
    items: Iterable[Mapping[str, Any]] | None = None,
    select: PhotoSelection | None = None,
    payload: Mapping[str, Any] | None = None,
    source: str = "user",
    thorough: bool = False,
    save: Path | None = None,
) -> Plan:
    """Return the changes that `run_task` with the same arguments would make, without making them.

    The task runs to its end on a shadow: copies of the rows, and empty files with the same names, sizes and times.
    Each step sees the results of the steps before it. `start_task` describes the arguments that both functions have.

    A `thorough` plan decodes every image whose derivatives would be made. Otherwise, only the headers of images are
    read, so damage behind a header is not found. `save` names a new file that receives all changes, for
    `run_saved_plan`.

    Raises:
        PlanFileError: the file exists or cannot be written.
        PlanBroken: a job of the plan could not be run, or the disk of temporary files is full.
        PhotojobsError: any error of `start_task`.
    """
    runtime = Runtime.current()
    new = new_task(
        find_definition(type),
        tenant_id=tenant_id,
        scope=scope,
        project_id=project_id,
        items=None if items is None else list(items),
        selection=select,
        payload=payload,
        source=source,
    )
    if save is None:
        return make_plan(runtime, new, is_thorough=thorough)
    with writing_plan(save, new, runtime, is_thorough=thorough) as add:
        plan = make_plan(runtime, new, is_thorough=thorough, on_change=add)
    return replace(plan, saved_as=save)


aplan_task = in_thread(plan_task)


def make_plan(
    runtime: Runtime, new: NewTask, *, is_thorough: bool = False, on_change: ChangeListener | None = None
) -> Plan:
    """Plan a task whose arguments `new_task` has checked. Its items must be an iterable that can be read repeatedly.

    Raises:
        PlanBroken: a job of the plan could not be run, or the disk of temporary files is full.
        PhotojobsError: any error of starting the task.
    """
    definition, made_at = new.definition.definition, runtime.database.clock()
    try:
        with shadow_for(runtime, new, is_thorough=is_thorough) as shadow:
            planner = _Planner(shadow, new, made_at, on_change)
            planner.run()
            steps = planner.steps()
    except (sqlite3.OperationalError, OSError) as error:
        is_full_for_sqlite = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if not is_full_for_sqlite and getattr(error, "errno", None) != errno.ENOSPC:
            raise
        reason = getattr(error, "strerror", None) or error
        raise PlanBroken(
            f"{definition.name}: the plan was not made: {reason}. Nothing was changed. Free space in "
            f"{tempfile.gettempdir()}, or set TMPDIR to a folder on a larger disk."
        ) from error
    return Plan(
        type=definition.name,
        label=definition.label,
        tenant_id=new.tenant_id,
        scope=str(new.scope),
        project_id=new.project_id,
        made_at=made_at,
        steps=steps,
    )


class _Planner:
    def __init__(self, shadow: Shadow, new: NewTask, made_at: datetime, on_change: ChangeListener | None) -> None:
        self._shadow = shadow
        self._new = new
        self._made_at = made_at
        self._on_change = on_change
        self._database = shadow.runtime.database
        self._tallies: dict[tuple[int, str], tuple[Tally, dict[str, Tally]]] = {}
        self._owners: dict[int, Owner] = {}
        self._folders: dict[str, Owner] = {}

    def run(self) -> None:
        """Run the task, and collect the changes of each step when the step has ended."""
        tasks = TasksRepository(self._database)
        self._know_projects(are_new=False)
        tasks.start(self._new)
        current: tuple[int, str] | None = None
        while True:
            task = tasks.settle(self._new.id)
            waiting = [] if task.is_final else tasks.unfinished_jobs(task, limit=1_000)
            job = min(waiting, key=rank, default=None)
            key = None if job is None else (job.step_index or 0, job.type)
            if current is not None and key != current:
                self._collect_changes(*current)
            if job is None or key is None:
                return
            current = key
            self._run(job)

    def steps(self) -> tuple[PlannedStep, ...]:
        """Return the planned work of each step."""
        summary = summarize_task(self._database, self._new.id)
        known = {(step.step_index, step.type): step for step in summary.steps}
        named = {(step.index, step.type) for step in self._new.definition.steps}
        return tuple(self._step(*key, known.get(key)) for key in sorted(named | known.keys()))

    def _step(self, index: int, type: str, summary: StepSummary | None) -> PlannedStep:
        tally, projects = self._tallies.get((index, type), (Tally(), {}))
        words = self._shadow.in_real_words
        return PlannedStep(
            index=index,
            type=type,
            status="skipped" if summary is None else "failed" if summary.jobs.get("failed") else "completed",
            tally=tally,
            projects=projects,
            remarks={}
            if summary is None
            else {
                name: (number, [words(example) for example in summary.examples.get(name, ())])
                for name, number in sorted(summary.counts.items())
            },
            errors=() if summary is None else tuple(words(error) for error in summary.errors),
            left={} if summary is None else {name: words(reason) for name, reason in summary.left.items()},
        )

    def _run(self, job: Job) -> None:
        runtime = self._shadow.runtime
        with self._database.begin() as connection:
            # In a plan, a failed job is repeated without a delay.
            promote_due(connection, now=datetime.max.replace(tzinfo=UTC))
            claimant = Claimant(worker_id=runtime.worker_id, now=self._database.clock())
            claimed = claim_by_id(connection, claimant, job.id)
        if claimed is None or run_claimed_job(claimed, runtime) is None:
            raise PlanBroken(
                f"{job.type}: the plan was not made, because a job of this step could not be run. Nothing was changed. "
                "Make the plan again."
            )

    def _collect_changes(self, step: int, type: str) -> None:
        self._know_projects(are_new=True)
        describe = self._shadow.runtime.library.accepted_extensions.describe
        tally, projects = self._tallies.setdefault((step, type), (Tally(), {}))
        for change in self._changes(step, type, describe):
            tally.add(change)
            if change.project in projects or len(projects) < MAX_PROJECTS:
                projects.setdefault(change.project, Tally()).add(change)
            if self._on_change is not None:
                self._on_change(change)

    def _changes(self, step: int, type: str, describe: Any) -> Iterator[Change]:
        ended_at = self._database.clock()
        for tree_change in self._shadow.tree.changes():
            change = file_change(
                tree_change,
                step=step,
                type=type,
                owners=self._folders,
                began_at=self._made_at,
                ended_at=ended_at,
                describe=describe,
            )
            if change is not None:
                yield change
        for one in self._shadow.rows.take():
            yield row_change(one, step=step, type=type, owners=self._owners)

    def _know_projects(self, *, are_new: bool) -> None:
        # A step may rename a project or its folder. The plan shows the first name of the project, and maps each folder
        # of the project to this name.
        for project in ProjectsRepository(self._database).list(tenant_id=self._new.tenant_id):
            owner = Owner(project_id=None if are_new else project.id, name=project.project_name)
            self._folders.setdefault(project.project_folder, self._owners.setdefault(project.id, owner))
