"""Prunes the database: removes old ended tasks and jobs in small batches, so that other writers do not wait long.

The journal of file changes, which an undo needs, is kept as long as files stay in the trash.
Flow runs and logs in Prefect's database are not removed here. No service prunes by itself: only `photojobs db prune`
does. The command passes the minimum age, and the setting `trash_ttl_seconds` as the time for which tasks can be undone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    collate,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    text,
)

from storage.batches import pages
from storage.database.clock import age
from storage.database.column_types import check_integer
from storage.database.engine import Database
from storage.database.tables import file_journal, holds, job_items, jobs, project_claims, tasks
from storage.history.foreign_rows import is_removal_refused, removal_refusals
from storage.history.undo_entries import UNDO
from storage.lifecycle.lock_order import LOCK_ORDER
from storage.records import JobStatus

#: The maximum number of rows that one transaction removes, because other writers wait for it.
BATCH_SIZE = 1_000

#: The age in seconds up to which journal entries are kept; by default, files stay in `.trash` for this time.
KEEP_JOURNAL_SECONDS = 86_400

#: One transaction removes at most `TASKS_PER_BATCH` tasks, and at most `TASK_ITEMS_PER_BATCH` rows of `tasks` and
#: `task_items` together. A task with more items is removed in a transaction of its own; a million items take about a
#: second.
TASKS_PER_BATCH = 50
TASK_ITEMS_PER_BATCH = 50_000

#: The maximum number of tasks, and of jobs, that `Pruned.reasons` names.
MAX_REASONS = 10

_Conditions = tuple[ColumnElement[bool], ...]

_ENDED = (str(JobStatus.COMPLETED), str(JobStatus.FAILED), str(JobStatus.CANCELED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The numbers of rows that a pruning removed, or would remove.

    Attributes:
        kept: the number of old tasks and jobs that the database refuses to remove, because rows of other programs
            depend on them or their items. The tasks of these jobs are kept, too.
        reasons: why they are kept, by their names, such as `task 4f0c` or `job 12`; for at most `MAX_REASONS` tasks and
            as many jobs.
    """

    tasks: int
    jobs: int
    items: int
    journal_entries: int
    kept: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Old:
    """The conditions for the removal of rows, for each table.

    Attributes:
        refused: for tasks and for jobs, the condition that other programs keep the database from removing an old row.
    """

    tasks: _Conditions
    jobs: _Conditions
    journal: _Conditions
    refused: Mapping[Table, _Conditions]


def prune(
    database: Database,
    *,
    older_than_seconds: float,
    batch_size: int = BATCH_SIZE,
    keep_journal_seconds: float = KEEP_JOURNAL_SECONDS,
) -> Pruned:
    """Remove old ended tasks with their jobs, items and holds, and old ended jobs without a task.

    A task that can be undone is kept with all its rows. This is a task with journal entries that were not undone and
    are younger than `keep_journal_seconds`; give the setting `trash_ttl_seconds`, or 0 to keep no task for this reason.
    A task that another task undoes at this time is kept, however old it is.
    A task is also kept with all its rows if the database refuses to remove one of them because of rows of other
    programs. Unfinished tasks and jobs are never removed. Old journal entries of removed tasks, and of jobs without a
    task, are removed too. After an interruption, the next call continues.

    Raises:
        InvalidValue: a number is too small or too large.
    """
    check_integer(batch_size, name="batch_size", minimum=1, maximum=100_000)
    old = _old(database, older_than_seconds=older_than_seconds, keep_journal_seconds=keep_journal_seconds)
    pruned_tasks = _remove_tasks(database, old.tasks, size=batch_size)
    with database.begin() as connection:
        # A caller may start a later task with the id of a removed task, and that task must not be on hold.
        of_no_task = ~exists().where(tasks.c.id == holds.c.name)
        connection.execute(delete(holds).where(holds.c.kind == "task", of_no_task))
    # Jobs of removed tasks now count as jobs without a task.
    old_jobs = (*old.jobs, _of_no_task())
    pruned_jobs = pruned_items = 0
    while ids := _next_rows(database, jobs, jobs.c.progress_total, *old_jobs, size=batch_size, weight=batch_size):
        with database.begin() as connection:
            # The conditions are checked again under a lock, because a job that was queued again must keep its items.
            locked = select(jobs.c.id).where(jobs.c.id.in_(ids), *old_jobs).order_by(*LOCK_ORDER)
            ids = list(connection.execute(locked.with_for_update()).scalars())
            of_jobs = job_items.c.job_id.in_(ids)
            if database.is_postgresql:
                # A removal of photos changes their items, too, in the order of the photos.
                items = select(job_items.c.id).where(of_jobs).order_by(job_items.c.photo_id, job_items.c.id)
                connection.execute(items.with_for_update())
            pruned_items += connection.execute(delete(job_items).where(of_jobs)).rowcount
            pruned_jobs += connection.execute(delete(jobs).where(jobs.c.id.in_(ids))).rowcount
    journal = (*old.journal, ~exists().where(tasks.c.id == file_journal.c.task_id))
    pruned_entries = _remove_journal(database, *journal, size=batch_size)
    with database.connect() as connection:
        return Pruned(
            tasks=pruned_tasks,
            jobs=pruned_jobs,
            items=pruned_items,
            journal_entries=pruned_entries,
            kept=_count_kept(connection, old),
            reasons=dict(_reasons(connection, old)),
        )


def count_prunable(
    database: Database, *, older_than_seconds: float, keep_journal_seconds: float = KEEP_JOURNAL_SECONDS
) -> Pruned:
    """Count the rows that `prune` would remove now. Raises the same errors."""
    old = _old(database, older_than_seconds=older_than_seconds, keep_journal_seconds=keep_journal_seconds)
    going = select(tasks.c.id).where(*old.tasks)
    old_jobs = select(jobs.c.id).where(*old.jobs, or_(_of_no_task(), jobs.c.task_id.in_(going)))
    stays = exists().where(tasks.c.id == file_journal.c.task_id, tasks.c.id.not_in(going))
    with database.connect() as connection:
        return Pruned(
            tasks=_count(connection, going),
            jobs=_count(connection, old_jobs),
            items=_count(connection, select(job_items.c.id).where(job_items.c.job_id.in_(old_jobs))),
            journal_entries=_count(connection, select(file_journal.c.id).where(*old.journal, ~stays)),
            kept=_count_kept(connection, old),
            reasons=dict(_reasons(connection, old)),
        )


def _old(database: Database, *, older_than_seconds: float, keep_journal_seconds: float) -> _Old:
    # The import of the settings takes a tenth of a second.
    from storage.settings import MAX_STALE_SECONDS

    now = database.clock()
    cutoff = now - age(older_than_seconds, name="older_than_seconds")
    keep_since = now - age(keep_journal_seconds, name="keep_journal_seconds")
    can_be_undone = exists().where(
        file_journal.c.task_id == tasks.c.id,
        file_journal.c.undone_at.is_(None),
        file_journal.c.created_at >= keep_since,
    )
    # The handler of a canceled job may still work in a project, until it calls `ctx.checkpoint` again. Such a job is
    # kept, because its removal would remove its claim on the project.
    works_on = exists().where(
        project_claims.c.job_id == jobs.c.id, project_claims.c.claimed_at > now - timedelta(seconds=MAX_STALE_SECONDS)
    )
    ended = (tasks.c.status.in_(_ENDED), tasks.c.finished_at < cutoff)
    old_tasks: _Conditions = (*ended, ~can_be_undone, ~_is_being_undone(database))
    old_jobs: _Conditions = (jobs.c.status.in_(_ENDED), jobs.c.finished_at < cutoff, ~works_on)
    with database.connect() as connection:
        task_is_refused, job_is_refused = (is_removal_refused(connection, table) for table in (tasks, jobs))
    refused: dict[Table, _Conditions] = {}
    free_tasks, free_jobs = old_tasks, old_jobs
    if task_is_refused is not None:
        refused[tasks] = (*old_tasks, task_is_refused)
        free_tasks += (~task_is_refused,)
    if job_is_refused is not None:
        of_old_task = exists().where(tasks.c.id == jobs.c.task_id, *old_tasks)
        refused[jobs] = (job_is_refused, of_old_task | and_(_of_no_task(), *old_jobs))
        free_tasks += (~exists().where(jobs.c.task_id == tasks.c.id, job_is_refused),)
        free_jobs += (~job_is_refused,)
    journal = (file_journal.c.created_at < min(cutoff, keep_since),)
    return _Old(tasks=free_tasks, jobs=free_jobs, journal=journal, refused=refused)


def _is_being_undone(database: Database) -> ColumnElement[bool]:
    payload = "jsonb_extract_path_text(payload_json, :key)"
    if not database.is_postgresql:
        # Other programs may have written a text that is not JSON.
        payload = "CASE WHEN json_valid(payload_json) THEN json_extract(payload_json, '$.' || :key) END"
    # The condition on the status is that of an index.
    undone = text(f"SELECT {payload} AS id FROM tasks WHERE status IN ('queued', 'running')").bindparams(key=UNDO)
    return exists().where(undone.columns(tasks.c.id).subquery("undone").c.id == tasks.c.id)


def _count(connection: Connection, rows: Select[Any]) -> int:
    return int(connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one())


def _count_kept(connection: Connection, old: _Old) -> int:
    return sum(_count(connection, select(table.c.id).where(*refused)) for table, refused in old.refused.items())


def _reasons(connection: Connection, old: _Old) -> Iterator[tuple[str, str]]:
    for table, refused in old.refused.items():
        task_id = jobs.c.task_id if table is jobs else null()
        first = select(table.c.id, task_id.label("task_id")).where(*refused).order_by(table.c.id).limit(MAX_REASONS)
        rows = connection.execute(first).all()
        reasons = removal_refusals(connection, table, [row.id for row in rows])
        for row in rows:
            # Another program may have removed its rows since the query.
            if row.id in reasons:
                of_task = f" of task {row.task_id}" if row.task_id else ""
                yield f"{table.name.removesuffix('s')} {row.id}{of_task}", reasons[row.id]


def _of_no_task() -> ColumnElement[bool]:
    return ~exists().where(tasks.c.id == jobs.c.task_id)


def _remove_tasks(database: Database, old: Sequence[ColumnElement[bool]], *, size: int) -> int:
    removed = 0
    # PostgreSQL locks the tasks in the order of code points, as `lock_tasks_of` does.
    order = collate(tasks.c.id, "C") if database.is_postgresql else tasks.c.id
    while ids := _next_rows(
        database, tasks, tasks.c.item_count, *old, size=min(size, TASKS_PER_BATCH), weight=TASK_ITEMS_PER_BATCH
    ):
        # The rows of tasks are removed before their jobs, so that no task that lacks jobs can be retried.
        with database.begin() as connection:
            locked = select(tasks.c.id).where(tasks.c.id.in_(ids), *old).order_by(order)
            ids = list(connection.execute(locked.with_for_update()).scalars())
            removed += connection.execute(delete(tasks).where(tasks.c.id.in_(ids))).rowcount
    return removed


def _next_rows(
    database: Database, table: Table, number: Column[int], *conditions: ColumnElement[bool], size: int, weight: int
) -> list[Any]:
    """Return the ids of the next rows of `tasks` or `jobs` that meet the conditions; empty if there are none.

    A row has the weight 1 plus its number of items, which is in the column `number`. The rows have at most `weight`
    together, but one row is returned even if it has more.
    """
    statement = select(table.c.id, number.label("items")).where(*conditions).order_by(table.c.finished_at).limit(size)
    ids: list[Any] = []
    total = 0
    with database.connect() as connection:
        for row in connection.execute(statement):
            total += 1 + max(0, row.items or 0)
            if ids and total > weight:
                break
            ids.append(row.id)
    return ids


def _remove_journal(database: Database, *conditions: ColumnElement[bool], size: int) -> int:
    removed = 0
    # The search for the ids takes no lock, because it may read many entries that are kept.
    for page in pages(database.connect, select(file_journal.c.id).where(*conditions), file_journal.c.id, size):
        with database.begin() as connection:
            these = file_journal.c.id.in_([row["id"] for row in page])
            removed += connection.execute(delete(file_journal).where(these, *conditions)).rowcount
    return removed
