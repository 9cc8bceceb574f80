"""Prunes the database: removes old ended tasks and jobs in small batches, so that other writers do not wait long.

The journal of file changes, which an undo needs, is kept as long as files stay in the trash.
Flow runs and logs in Prefect's database are not removed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, delete, exists, func, or_, select

from storage.batches import pages
from storage.database.column_types import check_integer
from storage.database.engine import Database
from storage.database.tables import file_journal, holds, job_items, jobs, project_claims, tasks
from storage.errors import InvalidValue
from storage.lifecycle.lock_order import LOCK_ORDER
from storage.queue.project_claims import STALE_SECONDS
from storage.records import JobStatus
from storage.settings import MAX_AGE_SECONDS

#: The maximum number of rows that one transaction removes, because other writers wait for it.
BATCH_SIZE = 1_000

#: The age in seconds up to which journal entries are kept; by default, files stay in `.trash` for this time.
KEEP_JOURNAL_SECONDS = 86_400

#: One transaction removes at most `TASKS_PER_BATCH` tasks, and at most `TASK_ITEMS_PER_BATCH` rows of `tasks` and
#: `task_items` together. A task with more items is removed in a transaction of its own; a million items take about a
#: second.
TASKS_PER_BATCH = 50
TASK_ITEMS_PER_BATCH = 50_000

_ENDED = (str(JobStatus.COMPLETED), str(JobStatus.FAILED), str(JobStatus.CANCELED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The numbers of rows that a pruning removed, or would remove."""

    tasks: int
    jobs: int
    items: int
    journal_entries: int


@dataclass(frozen=True, slots=True)
class _Old:
    """The conditions for the removal of rows, for each table."""

    tasks: tuple[ColumnElement[bool], ...]
    jobs: tuple[ColumnElement[bool], ...]
    journal: tuple[ColumnElement[bool], ...]


def prune(
    database: Database,
    *,
    older_than_seconds: float,
    batch_size: int = BATCH_SIZE,
    keep_journal_seconds: float = KEEP_JOURNAL_SECONDS,
) -> Pruned:
    """Remove old ended tasks with their jobs, items and holds, and old ended jobs without a task.

    A task that can be undone is kept with all its rows. This is a task with journal entries that are younger than
    `keep_journal_seconds`; give the setting `trash_ttl_seconds`, or 0 to keep no task for this reason. Unfinished tasks
    and jobs are never removed. After an interruption, the next call continues.

    Raises:
        InvalidValue: a number is negative or too large.
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
            pruned_items += connection.execute(delete(job_items).where(job_items.c.job_id.in_(ids))).rowcount
            pruned_jobs += connection.execute(delete(jobs).where(jobs.c.id.in_(ids))).rowcount
    journal = (*old.journal, ~exists().where(tasks.c.id == file_journal.c.task_id))
    return Pruned(
        tasks=pruned_tasks,
        jobs=pruned_jobs,
        items=pruned_items,
        journal_entries=_remove_journal(database, *journal, size=batch_size),
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

        def count(rows: Select[Any]) -> int:
            return int(connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one())

        return Pruned(
            tasks=count(going),
            jobs=count(old_jobs),
            items=count(select(job_items.c.id).where(job_items.c.job_id.in_(old_jobs))),
            journal_entries=count(select(file_journal.c.id).where(*old.journal, ~stays)),
        )


def _old(database: Database, *, older_than_seconds: float, keep_journal_seconds: float) -> _Old:
    for name, seconds in (("older_than_seconds", older_than_seconds), ("keep_journal_seconds", keep_journal_seconds)):
        if not 0 <= seconds <= MAX_AGE_SECONDS:
            raise InvalidValue(name, f"must be between 0 and {MAX_AGE_SECONDS}, not {seconds:g}")
    now = database.clock()
    cutoff, keep_since = (now - timedelta(seconds=age) for age in (older_than_seconds, keep_journal_seconds))
    can_be_undone = exists().where(
        file_journal.c.task_id == tasks.c.id,
        file_journal.c.undone_at.is_(None),
        file_journal.c.created_at >= keep_since,
    )
    # The handler of a canceled job may still work in a project, until it calls `ctx.checkpoint` again.
    works_on = exists().where(
        project_claims.c.job_id == jobs.c.id, project_claims.c.claimed_at > now - timedelta(seconds=STALE_SECONDS)
    )
    return _Old(
        tasks=(tasks.c.status.in_(_ENDED), tasks.c.finished_at < cutoff, ~can_be_undone),
        jobs=(jobs.c.status.in_(_ENDED), jobs.c.finished_at < cutoff, ~works_on),
        journal=(file_journal.c.created_at < min(cutoff, keep_since),),
    )


def _of_no_task() -> ColumnElement[bool]:
    return ~exists().where(tasks.c.id == jobs.c.task_id)


def _remove_tasks(database: Database, old: Sequence[ColumnElement[bool]], *, size: int) -> int:
    removed = 0
    while ids := _next_rows(
        database, tasks, tasks.c.item_count, *old, size=min(size, TASKS_PER_BATCH), weight=TASK_ITEMS_PER_BATCH
    ):
        # The rows of tasks are removed before their jobs, so that no task that lacks jobs can be retried.
        with database.begin() as connection:
            removed += connection.execute(delete(tasks).where(tasks.c.id.in_(ids), *old)).rowcount
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
            total += 1 + (row.items or 0)
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
