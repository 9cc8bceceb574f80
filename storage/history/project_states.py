"""Writes rows of projects for an undo: restores removed rows with their ids and tags, changes rows, or removes them.

`flows.undoing.project_undo` decides which values and rows an undo restores.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, true, update

from storage.database.tables import photos, projects, tags
from storage.history.foreign_columns import restore_foreign_values
from storage.history.row_snapshots import removed_project, row_values
from storage.history.snapshot_values import is_among, stored_value
from storage.photos.projects import ProjectsRepository
from task_definitions.wording import quantity


def is_in_use(connection: Connection, project_id: int, *, own_tags: Sequence[Any]) -> str | None:
    """Return a text for the contents of a project, such as "3 photos" or "1 tag"; None if the project is empty.

    The tags with the names `own_tags`, from a snapshot, do not count.
    """
    others = ~is_among(tags.c.name, map(stored_value, own_tags))
    for word, table, condition in (("photo", photos, true()), ("tag", tags, others)):
        statement = select(func.count()).select_from(table).where(table.c.project_id == project_id, condition)
        count = connection.execute(statement).scalar_one()
        if count:
            return quantity(count, word)
    return None


def add_project(
    connection: Connection, row: Mapping[str, Any], *, tags: Sequence[tuple[int, Any]], now: datetime
) -> None:
    """Insert a project from a snapshot, with its tags. A tag whose id is taken gets a new id."""
    connection.execute(insert(projects).values(row_values(projects, row, now=now)))
    restore_foreign_values(connection, projects, [row])
    add_tags(connection, [((int(row["id"]), stored_value(name)), tag_id) for tag_id, name in tags])


def change_project(connection: Connection, project_id: int, values: Mapping[str, Any], *, now: datetime) -> None:
    """Set columns of a project to their values in a snapshot."""
    statement = update(projects).where(projects.c.id == project_id)
    connection.execute(statement.values({**row_values(projects, values, now=now), "updated_at": now}))


def remove_empty_project(connection: Connection, project_id: int) -> dict[str, Any] | None:
    """Remove the row of a project without photos, and return its snapshot; None if there is no row."""
    row = removed_project(connection, project_id)
    ProjectsRepository(connection).remove(project_id)
    return row


def add_tags(connection: Connection, wanted: Sequence[tuple[tuple[int, str], int]]) -> dict[tuple[int, str], int]:
    """Insert tags, given as pairs of (project id, name) and the wanted id; return the ids by project id and name.

    A tag whose wanted id is taken gets a new id. In a database that another program created, a project may have two
    tags of one name; both are inserted.
    """
    taken = set(connection.execute(select(tags.c.id).where(tags.c.id.in_([tag_id for _, tag_id in wanted]))).scalars())
    added = {}
    for (project_id, name), tag_id in wanted:
        row = {"project_id": project_id, "name": name} | ({} if tag_id in taken else {"id": tag_id})
        added[project_id, name] = connection.execute(insert(tags).values(row).returning(tags.c.id)).scalar_one()
    return added
