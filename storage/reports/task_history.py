"""Reads the history of a task for its report: times of jobs, reasons of failures, slow items, changed files and photos.

SQL summarizes the rows, and every list is limited, so that few rows are read even for a task of a million items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select, text

from storage.database.column_types import UtcTimestamp
from storage.database.tables import file_journal, jobs, photo_derivatives, photos, projects
from storage.lifecycle.step_jobs import of_tenant
from storage.records import Task

#: If at most this number of jobs of a task has started, each job is one span. Otherwise, jobs of the same step, worker
#: and status that started in the same bucket of time are one span.
MAX_SINGLE_JOBS = 600

#: The number of buckets that the time of a task is divided into.
BUCKETS = 200

#: The maximum number of reasons in a list.
MAX_REASONS = 25
#: The maximum number of items and projects in the list of the slowest ones.
MAX_SLOWEST = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpan:
    """The time span of a job, or of jobs of one step, worker and status that started at about the same time.

    Attributes:
        items: the number of items that the jobs have processed; 0 for jobs without items.
        finished_at: when the last of the jobs ended; None while one of them runs.
    """

    step_index: int
    type: str
    priority: int
    worker_id: str
    status: str
    jobs: int
    items: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Waiting times (before the last start) and running times of the jobs of a step, in seconds.

    `p95` is the 95th percentile.
    """

    step_index: int
    type: str
    jobs: int
    wait_median: float
    wait_p95: float
    wait_longest: float
    run_median: float
    run_p95: float
    run_longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReason:
    """A reason for failures of items, or of jobs without failed items.

    `first` is the name of one of the items; None for jobs, and for items without a name.
    """

    type: str
    reason: str
    count: int
    first: str | None
    is_of_items: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """An item or a project that took long, with the seconds of one attempt."""

    type: str
    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChanges:
    """Changes of one kind that a task made to originals, from the journal; `first` has paths of a few changes."""

    action: str
    files: int
    size_bytes: int
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPhoto:
    """A photo whose row, files or derivatives changed while the task ran."""

    id: int
    name: str
    tenant_id: str
    project_name: str
    project_folder: str
    is_new: bool
    is_moved: bool


def job_spans(connection: Connection, task: Task, *, now: datetime) -> Sequence[JobSpan]:
    """Return the spans of the started jobs of a task, in order of their starts."""
    started = connection.execute(
        select(func.count()).where(jobs.c.task_id == task.id, jobs.c.started_at.is_not(None))
    ).scalar_one()
    bucket = "id"
    parameters: dict[str, Any] = {"task_id": task.id}
    types: list[BindParameter[Any]] = []
    if started > MAX_SINGLE_JOBS:
        begin, end = task.started_at or task.created_at, task.finished_at or now
        # Not every SQLite has `floor`; its CAST cuts a number, and that of PostgreSQL rounds it.
        floor = "floor" if connection.dialect.name == "postgresql" else ""
        bucket = f"CAST({floor}({_seconds(connection, 'started_at', ':begin')} / :width) AS INTEGER)"
        parameters |= {"begin": begin, "width": max((end - begin).total_seconds(), 0.001) / BUCKETS}
        types = [bindparam("begin", type_=UtcTimestamp)]
    rows = connection.execute(
        text(f"""
            SELECT coalesce(step_index, 0) AS step_index, type, priority, coalesce(worker_id, '') AS worker_id, status,
                count(*) AS jobs,
                sum(CASE WHEN EXISTS (SELECT 1 FROM job_items WHERE job_items.job_id = jobs.id)
                    THEN coalesce(progress_done, 0) ELSE 0 END) AS items, min(started_at) AS started_at,
                CASE WHEN count(*) = count(finished_at) THEN max(finished_at) END AS finished_at
            FROM jobs WHERE task_id = :task_id AND started_at IS NOT NULL
            GROUP BY coalesce(step_index, 0), type, priority, coalesce(worker_id, ''), status, {bucket}
            ORDER BY min(started_at) LIMIT 20000
        """)
        .bindparams(*types)
        .columns(started_at=UtcTimestamp, finished_at=UtcTimestamp),
        parameters,
    )
    # A start that another program wrote may be a text that is not a time.
    return [JobSpan(**{**row, "items": int(row["items"])}) for row in rows.mappings() if row["started_at"] is not None]


def step_times(connection: Connection, task_id: str) -> Sequence[StepTimes]:
    """Return the waiting and running times of the ended jobs of each step."""
    wait, run = _seconds(connection, "started_at", "created_at"), _seconds(connection, "finished_at", "started_at")
    rows = connection.execute(
        text(f"""
            WITH timed AS (
                SELECT coalesce(step_index, 0) AS step_index, type, {wait} AS wait, {run} AS run FROM jobs
                WHERE task_id = :task_id AND started_at IS NOT NULL AND finished_at IS NOT NULL
            ), ranked AS (
                SELECT step_index, type, wait, run,
                    row_number() OVER (PARTITION BY step_index, type ORDER BY wait) AS wait_rank,
                    row_number() OVER (PARTITION BY step_index, type ORDER BY run) AS run_rank,
                    count(*) OVER (PARTITION BY step_index, type) AS total
                FROM timed WHERE wait IS NOT NULL AND run IS NOT NULL
            )
            SELECT step_index, type, max(total) AS jobs,
                min(CASE WHEN wait_rank >= total * 0.5 THEN wait END) AS wait_median,
                min(CASE WHEN wait_rank >= total * 0.95 THEN wait END) AS wait_p95, max(wait) AS wait_longest,
                min(CASE WHEN run_rank >= total * 0.5 THEN run END) AS run_median,
                min(CASE WHEN run_rank >= total * 0.95 THEN run END) AS run_p95, max(run) AS run_longest
            FROM ranked GROUP BY step_index, type ORDER BY step_index, type
        """),
        {"task_id": task_id},
    )
    times = []
    for row in rows.mappings():
        values: dict[str, Any] = dict(row)
        for name in values:
            if name.startswith(("wait_", "run_")):
                # The clocks of two machines may differ slightly, so a difference may be negative.
                values[name] = max(0.0, float(values[name]))
        times.append(StepTimes(**values))
    return times


# A short name, such as 1, is removed only from the beginning, because elsewhere it may be a part of a number or a word.
_ITEM_REASONS = text("""
    SELECT type, CASE
            WHEN substr(said, 1, length(name) + 1) IN (name || '.', name || ':')
                THEN '…' || substr(said, length(name) + 1)
            WHEN length(name) > 3 THEN replace(said, name, '…') ELSE said
        END AS reason, count(*) AS count, min(name) AS first
    FROM (
        SELECT jobs.type, coalesce(job_items.message, job_items.error_type, '') AS said,
            nullif(job_items.filename, '') AS name
        FROM jobs JOIN job_items ON job_items.job_id = jobs.id
        WHERE jobs.task_id = :task_id AND job_items.status = 'failed'
    ) AS failed GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT :limit
""")
_JOB_REASONS = text("""
    SELECT type, coalesce(error_message, '') AS reason, count(*) AS count, NULL AS first FROM jobs
    WHERE task_id = :task_id AND status = 'failed'
        AND NOT EXISTS (SELECT 1 FROM job_items WHERE job_items.job_id = jobs.id AND job_items.status = 'failed')
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT :limit
""")


def failure_reasons(connection: Connection, task_id: str) -> Sequence[FailureReason]:
    """Return the reasons for failures of items and of jobs without failed items, the most frequent reason first.

    The name of the item is removed from its reason, so that items with the same reason are counted together.
    """
    parameters = {"task_id": task_id, "limit": MAX_REASONS}
    found = [
        FailureReason(**row, is_of_items=is_of_items)
        for statement, is_of_items in ((_ITEM_REASONS, True), (_JOB_REASONS, False))
        for row in connection.execute(statement, parameters).mappings()
    ]
    return sorted(found, key=lambda reason: reason.count, reverse=True)[:MAX_REASONS]


_SLOWEST_SQLITE = text("""
    SELECT jobs.type,
        CASE WHEN slow.type = 'object' THEN CAST(json_extract(slow.value, '$.name') AS text) END AS name,
        CASE WHEN slow.type = 'object' AND json_type(slow.value, '$.seconds') IN ('integer', 'real')
            THEN json_extract(slow.value, '$.seconds') END AS seconds
    FROM jobs, json_each(CASE WHEN json_valid(jobs.result_json) THEN jobs.result_json END, '$.slowest') AS slow
    WHERE jobs.task_id = :task_id AND jobs.result_json IS NOT NULL
    ORDER BY 3 DESC, 2 LIMIT :limit
""")
_SLOWEST_POSTGRESQL = text("""
    SELECT jobs.type, slow.value ->> 'name' AS name,
        CASE jsonb_typeof(slow.value -> 'seconds') WHEN 'number' THEN (slow.value ->> 'seconds')::float END AS seconds
    FROM jobs, jsonb_array_elements(jobs.result_json -> 'slowest') AS slow(value)
    WHERE jobs.task_id = :task_id AND jsonb_typeof(jobs.result_json -> 'slowest') = 'array'
    ORDER BY 3 DESC NULLS LAST, 2 LIMIT :limit
""")


def slowest(connection: Connection, task_id: str, *, limit: int = MAX_SLOWEST) -> Sequence[Slow]:
    """Return the slowest items and projects of a task. Each job has recorded its slowest items and projects."""
    statement = _SLOWEST_POSTGRESQL if connection.dialect.name == "postgresql" else _SLOWEST_SQLITE
    rows = connection.execute(statement, {"task_id": task_id, "limit": limit}).mappings()
    return [Slow(**row) for row in rows if row["name"] is not None and row["seconds"] is not None]


def file_changes(connection: Connection, task_id: str, *, examples: int = 5) -> Sequence[FileChanges]:
    """Return the changes that a task made to originals, summarized by kind of change."""
    of_task = file_journal.c.task_id == task_id
    counted = connection.execute(
        select(file_journal.c.action, func.count(), func.coalesce(func.sum(file_journal.c.size_bytes), 0))
        .where(of_task)
        .group_by(file_journal.c.action)
        .order_by(file_journal.c.action)
    ).all()
    made = []
    for action, files, size_bytes in counted:
        named = select(file_journal.c.source, file_journal.c.target).where(of_task, file_journal.c.action == action)
        first = connection.execute(named.order_by(file_journal.c.id).limit(examples))
        names = tuple(source if target is None else f"{source} → {target}" for source, target in first)
        made.append(FileChanges(action=action, files=files, size_bytes=int(size_bytes), first=names))
    return made


def changed_photos(
    connection: Connection, task: Task, *, limit: int, now: datetime
) -> tuple[Sequence[ChangedPhoto], int]:
    """Return the first photos that changed while the task ran, and the number of all photos that changed.

    For a task of the scope `project`, only photos of its project count, else all photos of its tenant. Rows do not
    store which task changed them, so changes by other tasks at the same time are included.
    """
    begin, end = task.started_at or task.created_at, task.finished_at or now
    remade = (
        select(photo_derivatives.c.photo_id)
        .where(photo_derivatives.c.generated_at.between(begin, end))
        .scalar_subquery()
    )
    moved = (
        select(file_journal.c.photo_id)
        .where(file_journal.c.task_id == task.id, file_journal.c.photo_id.is_not(None))
        .scalar_subquery()
    )
    changed = select(
        photos.c.id,
        photos.c.filename.label("name"),
        func.coalesce(projects.c.tenant_id, task.tenant_id).label("tenant_id"),
        projects.c.project_name,
        projects.c.project_folder,
        (photos.c.created_at >= begin).label("is_new"),
        photos.c.id.in_(moved).label("is_moved"),
    ).join(projects, projects.c.id == photos.c.project_id)
    changed = changed.where(
        of_tenant(task.tenant_id),
        photos.c.updated_at.between(begin, end) | photos.c.id.in_(remade) | photos.c.id.in_(moved),
    )
    if task.scope == "project":
        changed = changed.where(projects.c.id == task.project_id)
    total = connection.execute(select(func.count()).select_from(changed.subquery())).scalar_one()
    rows = connection.execute(changed.order_by(photos.c.id).limit(limit)).mappings()
    return [ChangedPhoto(**row) for row in rows], total


def _seconds(connection: Connection, later: str, earlier: str) -> str:
    if connection.dialect.name == "postgresql":
        return f"extract(epoch FROM CASE WHEN isfinite({later}) AND isfinite({earlier}) THEN {later} - {earlier} END)"
    return f"(julianday({later}) - julianday({earlier})) * 86400"
