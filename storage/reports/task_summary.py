"""Summarizes a task by step, with counts from SQL, for final states, progress, tables and reports."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, literal_column, select

from storage.database.engine import Access, Database
from storage.database.tables import job_items, jobs
from storage.queue.tasks import TasksRepository
from storage.records import ItemStatus, Task, read_report
from task_definitions.wording import quantity

#: The maximum number of example names for each count in the report of a job, in a summary and in a plan. Counts have no
#: limit.
MAX_EXAMPLES = 10
#: The maximum number of error messages of failed jobs in the summary of a step.
MAX_ERRORS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """The jobs of one step, or the follow-up jobs of one type and priority.

    Attributes:
        jobs: the number of jobs by status.
        items: the number of items by status.
        counts: the counts that the handlers reported, summed over the jobs.
        examples: the names of the first photos, files or projects in each count.
        projects: the counts by project, if the handlers count by project.
        errors: the first error messages of failed jobs.
        left: the names of files that the handlers left unchanged, with the reasons.
        seconds: the time from the first start to the last end; None while no job has started, or none has ended.
        started_at: when the first job started; None if none has started.
        finished_at: when the latest job ended; None while no job has ended.
    """

    step_index: int
    type: str
    priority: int
    jobs: dict[str, int]
    items: dict[str, int]
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    projects: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def total_jobs(self) -> int:
        """The number of jobs of the step."""
        return sum(self.jobs.values())

    @property
    def total_items(self) -> int:
        """The number of items of the step."""
        return sum(self.items.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """A task with the results of its jobs and items."""

    task: Task
    steps: tuple[StepSummary, ...]

    @property
    def jobs(self) -> dict[str, int]:
        """The number of jobs by status, over all steps."""
        return dict(sum((Counter(step.jobs) for step in self.steps), Counter()))

    @property
    def items(self) -> dict[str, int]:
        """The number of items by status, over all steps."""
        return dict(sum((Counter(step.items) for step in self.steps), Counter()))

    @property
    def found_nothing(self) -> bool:
        """Whether the task completed without work, because no photo was given or matched its selection."""
        return self.task.status == "completed" and self.task.item_count == 0

    @property
    def message(self) -> str:
        """One line with the numbers of completed, failed and canceled jobs, and of failed items.

        For a task that found no photo or has not started, the line says this instead.
        """
        if self.found_nothing:
            return "no photo matches the selection; nothing was done"
        jobs = self.jobs
        if self.task.status == "queued" and not jobs.get("completed"):
            return "the task has not started yet"
        parts = [f"{quantity(jobs.get('completed', 0), 'job')} completed", f"{jobs.get('failed', 0)} failed"]
        parts.append(f"{jobs.get('canceled', 0)} canceled")
        failed_items = self.items.get("failed", 0)
        return ", ".join(parts) + (f"; {quantity(failed_items, 'item')} failed" if failed_items else "")


def summarize_task(source: Database | Connection, task_id: str) -> TaskSummary:
    """Return the summary of a task, with a fixed number of statements.

    Raises:
        UnknownTask: the task does not exist.
    """
    return TaskSummary(task=TasksRepository(source).get(task_id), steps=_summarize(source, {"task_id": task_id}))


def summarize_step(database: Database, task_id: str, step_index: int) -> tuple[StepSummary, ...]:
    """Return the summary of one step of a task; follow-up jobs have one summary for each type and priority."""
    return _summarize(database, {"task_id": task_id, "step_index": step_index})


#: The columns that identify a step summary. A job that another program added to a task may have no step.
_KEY = (func.coalesce(jobs.c.step_index, literal_column("0")), jobs.c.type, jobs.c.priority)


@cache
def _statements(*names: str) -> tuple[Select[Any], Select[Any], Select[Any]]:
    """Return the statements for jobs, items and results, with a condition on each of the named columns of `jobs`.

    The statements are cached, because for a small task building them takes longer than running them.
    """
    condition = and_(*(jobs.c[name] == bindparam(name) for name in names))
    # Items are first grouped by job, in the order of the index. Grouping by status would sort up to a million items.
    counted = (
        select(
            job_items.c.job_id,
            *(func.sum(case((job_items.c.status == status, 1), else_=0)).label(status) for status in ItemStatus),
        )
        .where(job_items.c.job_id.in_(select(jobs.c.id).where(condition)))
        .group_by(job_items.c.job_id)
        .subquery()
    )
    return (
        select(*_KEY, jobs.c.status, func.count(), func.min(jobs.c.started_at), func.max(jobs.c.finished_at))
        .where(condition)
        .group_by(*_KEY, jobs.c.status),
        select(*_KEY, *(func.sum(counted.c[status]) for status in ItemStatus))
        .join(counted, counted.c.job_id == jobs.c.id)
        .where(condition)
        .group_by(*_KEY),
        select(*_KEY, jobs.c.result_json, case((jobs.c.status == "failed", jobs.c.error_message)))
        .where(condition, jobs.c.result_json.is_not(None) | (jobs.c.status == "failed"))
        .order_by(jobs.c.id),
    )


def _summarize(source: Database | Connection, of: dict[str, Any]) -> tuple[StepSummary, ...]:
    with Access(source).read() as connection:
        job_rows, item_rows, results = (connection.execute(one, of).all() for one in _statements(*of))
    steps: dict[tuple[int, str, int], _Tally] = defaultdict(_Tally)
    for *step_key, status, count, started_at, finished_at in job_rows:
        tally = steps[tuple(step_key)]
        tally.jobs[status] = count
        tally.started += [started_at] if started_at else []
        tally.finished += [finished_at] if finished_at else []
    for row in item_rows:
        counts = zip(ItemStatus, row[len(_KEY) :], strict=True)
        steps[tuple(row[: len(_KEY)])].items.update((str(status), int(count)) for status, count in counts if count)
    for *step_key, result, error in results:
        steps[tuple(step_key)].add_result(read_report(result), error)
    return tuple(steps[step_key].summary(*step_key) for step_key in sorted(steps))


@dataclass(slots=True)
class _Tally:
    jobs: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    projects: dict[str, Counter[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    started: list[datetime] = field(default_factory=list)
    finished: list[datetime] = field(default_factory=list)

    def add_result(self, result: dict[str, Any], error: str | None) -> None:
        self.counts.update(result.get("counts", {}))
        for name, examples in result.get("examples", {}).items():
            known = self.examples.setdefault(name, [])
            known += examples[: MAX_EXAMPLES - len(known)]
        for name, counts in result.get("projects", {}).items():
            self.projects.setdefault(name, Counter()).update(counts)
        self.left.update(result.get("left", {}))
        if error and len(self.errors) < MAX_ERRORS:
            self.errors.append(error)

    def summary(self, step_index: int, type: str, priority: int) -> StepSummary:
        started_at, finished_at = min(self.started, default=None), max(self.finished, default=None)
        return StepSummary(
            step_index=step_index,
            type=type,
            priority=priority,
            jobs=self.jobs,
            items=self.items,
            counts=dict(self.counts),
            examples=self.examples,
            projects={name: dict(counts) for name, counts in self.projects.items()},
            errors=tuple(self.errors),
            left=self.left,
            seconds=(finished_at - started_at).total_seconds() if started_at and finished_at else None,
            started_at=started_at,
            finished_at=finished_at,
        )
