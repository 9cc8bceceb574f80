"""Copies rows to another database, in which a plan is made: the rows that a task can read and change.

All rows come from one snapshot of the source, and no row of the source is changed or locked. Copied rows keep their
ids, and new projects, photos and journal entries get the ids that they would get in the source.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, column, insert, select, table, text

from storage.batches import batched
from storage.database.engine import Database
from storage.database.tables import (
    TENANT_FOLDER_INDEX,
    file_journal,
    photo_derivatives,
    photo_originals,
    photo_tags,
    photos,
    projects,
    tags,
    tasks,
)
from storage.history.foreign_columns import copy_foreign_columns
from storage.history.foreign_rows import copy_references
from storage.lifecycle.job_items import item_values
from storage.lifecycle.step_jobs import of_tenant
from storage.photos.projects import folders_are_unique_per_tenant
from storage.queue.new_tasks import NewTask
from task_definitions import Scope

#: The number of rows that are copied at once, and the number of ids in one statement.
BATCH_SIZE = 5_000
_IDS_PER_STATEMENT = 500

#: The tables whose changes a plan shows. Others, such as the journal, are copied, but their changes are not shown.
DOMAIN_TABLES: tuple[Table, ...] = (projects, photos, tags, photo_tags, photo_derivatives)


def projects_in_reach(connection: Connection, new: NewTask, *, of_whole_tenant: bool) -> list[int]:
    """Return the ids of the projects whose photos a task can change.

    These are the task's own project and the projects of its items or of its selection. If the task is global, or one of
    its steps also reads other projects (`of_whole_tenant`), these are all projects of the tenant. `new.items` is read
    here and again later, so it must not be an iterator.
    """
    if of_whole_tenant or new.scope is Scope.GLOBAL:
        return list(connection.execute(select(projects.c.id).where(of_tenant(new.tenant_id))).scalars())
    found = set() if new.project_id is None else {new.project_id}
    if new.selection is not None:
        chosen = new.selection.statement(new.tenant_id).subquery("selected")
        of_chosen = select(photos.c.project_id).join(chosen, chosen.c.photo_id == photos.c.id).distinct()
        found.update(connection.execute(of_chosen).scalars())
    ids = (item_values(item, index)[0] for index, item in enumerate(new.items or ()))
    for batch in batched((photo_id for photo_id in ids if photo_id is not None), _IDS_PER_STATEMENT):
        of_items = select(photos.c.project_id).where(photos.c.id.in_(batch)).distinct()
        found.update(connection.execute(of_items).scalars())
    owned = select(projects.c.id).where(of_tenant(new.tenant_id))
    return sorted(found & set(connection.execute(owned).scalars()))


def copy_rows(
    source: Connection,
    target: Database,
    *,
    tenant_id: str,
    project_ids: Sequence[int],
    undone_task_id: str | None = None,
) -> None:
    """Copy all projects. Of the given projects, also copy the photos with their related rows, and the journal.

    Args:
        source: a snapshot of the real database.
        target: an SQLite database of the newest schema, without rows.
        tenant_id: the tenant; its journal entries without a project are copied, too.
        project_ids: the projects whose photos and journal are copied.
        undone_task_id: for the plan of an undo, the task to undo; its row and its whole journal are copied, including
            entries of other projects.
    """
    with target.begin() as connection:
        if not folders_are_unique_per_tenant(source):
            connection.exec_driver_sql(f"DROP INDEX {TENANT_FOLDER_INDEX}")
            connection.exec_driver_sql("CREATE UNIQUE INDEX uq_projects_folder ON projects (project_folder)")
        _copy(source, connection, projects, select(projects.c.id))
        for batch in batched(project_ids, _IDS_PER_STATEMENT):
            of_batch = photos.c.project_id.in_(batch)
            own_photos = select(photos.c.id).where(of_batch)
            _copy(source, connection, photos, own_photos)
            _copy(source, connection, tags, select(tags.c.id).where(tags.c.project_id.in_(batch)))
            for related in (photo_tags, photo_derivatives, photo_originals):
                _copy(source, connection, related, own_photos, key=related.c.photo_id)
            entries = select(file_journal.c.id).where(file_journal.c.project_id.in_(batch))
            _copy(source, connection, file_journal, entries)
            copy_references(source, connection, photos, own_photos, only_refusing=True)
            own_projects = select(projects.c.id).where(projects.c.id.in_(batch))
            copy_references(source, connection, projects, own_projects, only_refusing=True)
        loose = select(file_journal.c.id).where(
            file_journal.c.project_id.is_(None), file_journal.c.tenant_id == tenant_id
        )
        if undone_task_id is not None:
            of_task = select(file_journal.c.id).where(file_journal.c.task_id == undone_task_id)
            copied = select(file_journal.c.id).where(file_journal.c.project_id.in_(project_ids))
            _copy(source, connection, file_journal, of_task.where(file_journal.c.id.not_in(copied)))
            _copy(source, connection, tasks, select(tasks.c.id).where(tasks.c.id == undone_task_id))
            for owner, key in ((projects, file_journal.c.project_id), (photos, file_journal.c.photo_id)):
                named = select(key).where(file_journal.c.task_id == undone_task_id, key.is_not(None))
                copy_foreign_columns(source, connection, owner, named)
                copy_references(source, connection, owner, named)
            loose = loose.where(file_journal.c.task_id.is_distinct_from(undone_task_id))
        _copy(source, connection, file_journal, loose)
        for counted in (projects, photos, file_journal):
            _copy_last_id(source, connection, counted)


def _copy(
    source: Connection, target: Connection, copied: Table, ids: Select[Any], *, key: ColumnElement[Any] | None = None
) -> None:
    key = copied.c.id if key is None else key
    if source.dialect.name == "postgresql":
        wanted: Any = select(copied)
        write: Any = insert(copied)
    else:
        # The stored values are copied unchanged, including values that only other programs write.
        names = [one.name for one in copied.columns]
        raw = table(copied.name, *(column(name) for name in names))
        wanted, write = select(raw), insert(raw)
        key = raw.c[key.name]
    mappings = source.execute(wanted.where(key.in_(ids)), execution_options={"yield_per": BATCH_SIZE}).mappings()
    while batch := mappings.fetchmany(BATCH_SIZE):
        target.execute(write, [dict(row) for row in batch])


def _copy_last_id(source: Connection, target: Connection, counted: Table) -> None:
    name = counted.name
    if source.dialect.name == "postgresql":
        sequence = source.execute(text(f"SELECT pg_get_serial_sequence('{name}', 'id')")).scalar_one()
        last, is_called = source.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
        last -= 0 if is_called else 1
    else:
        statement = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        last = source.execute(statement, {"name": name}).scalar_one_or_none() or 0
    target.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
    target.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": name, "seq": last})
