"""Counts the projects, photos and derivatives of a task's library before its first job and after its last job.

The figures are stored in `tasks.library_json`. They do not include sizes of originals. `flows.execution.task_notes`
decides when they are taken.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, update

from storage.database.engine import Database
from storage.database.tables import IS_PENDING_DELETION, photo_derivatives, photos, projects, tasks
from storage.lifecycle.step_jobs import is_active, of_tenant, target_projects
from storage.records import Task

Moment = Literal["before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryFigures:
    """The figures of a tenant's library, or of the projects of a task.

    Attributes:
        projects: the number of active projects. The other figures, except `archived_projects`, are of these projects.
        lacking: the number of photos whose thumbnail or preview was not made yet, is missing or failed; formats that
            cannot have one do not count.
        pending_deletions: the number of photos with a file that a user has marked for removal (keep flag 0).
        derivative_bytes: the total size of the thumbnails and previews whose size is known.
    """

    projects: int
    archived_projects: int
    photos: int
    with_jpg: int
    with_raw: int
    with_other: int
    thumbnails: int
    previews: int
    lacking: int
    pending_deletions: int
    derivative_bytes: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self | None:
        """Return the figures that `to_json` wrote, or None if a number is missing."""
        known = {name: document.get(name) for name in cls.__dataclass_fields__}
        numbers = {name: value for name, value in known.items() if isinstance(value, int)}
        return cls(**numbers) if len(numbers) == len(known) else None

    def to_json(self) -> dict[str, int]:
        """Return the figures as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeAndAfter:
    """The figures of a task's library before and after the task; None if they were not counted."""

    before: LibraryFigures | None
    after: LibraryFigures | None


def take_figures(connection: Connection, task: Task) -> LibraryFigures:
    """Count the current figures of the whole tenant if the task is global, else of the task's projects."""
    of_task = _projects_of(task)
    project_counts = connection.execute(
        select(_count_of(is_active()), _count_of(~is_active())).select_from(projects).where(of_task)
    ).one()
    in_scope = select(projects.c.id).where(of_task, is_active())
    lacking = [
        or_(status.is_(None), status.in_(("pending", "missing", "failed")))
        for status in (photos.c.thumbnail_status, photos.c.preview_status)
    ]
    conditions = (
        photos.c.jpg_available != 0,
        photos.c.raw_available != 0,
        photos.c.other_available != 0,
        photos.c.thumbnail_status == "generated",
        photos.c.preview_status == "generated",
        or_(*lacking),
        IS_PENDING_DELETION,
    )
    counts = connection.execute(
        select(func.count(), *map(_count_of, conditions)).select_from(photos).where(photos.c.project_id.in_(in_scope))
    ).one()
    size_bytes = connection.execute(
        select(func.coalesce(func.sum(photo_derivatives.c.size_bytes), 0))
        .join(photos, photos.c.id == photo_derivatives.c.photo_id)
        .where(photos.c.project_id.in_(in_scope))
    ).scalar_one()
    numbers = [int(number) for number in (*project_counts, *counts, size_bytes)]
    return LibraryFigures(**dict(zip(LibraryFigures.__dataclass_fields__, numbers, strict=True)))


def read_figures(connection: Connection, task_id: str) -> BeforeAndAfter:
    """Return the stored figures of a task's library."""
    known = _kept(connection, task_id)
    parts = {moment: known.get(moment) for moment in ("before", "after")}
    return BeforeAndAfter(
        **{name: LibraryFigures.from_json(part) if isinstance(part, dict) else None for name, part in parts.items()}
    )


def keep_figures(database: Database, task: Task, moment: Moment) -> None:
    """Count the figures and store them with the task. The figures before the task are stored only once.

    Raises:
        StorageError: the database cannot be used.
    """
    # The figures are counted outside of the write transaction. A large library takes seconds, and other writers would
    # wait.
    with database.connect() as connection:
        if moment == "before" and _kept(connection, task.id):
            return
        figures = take_figures(connection, task)
    with database.begin() as connection:
        values = {"library_json": {**_kept(connection, task.id), moment: figures.to_json()}}
        connection.execute(update(tasks).where(tasks.c.id == task.id).values(values))


def _kept(connection: Connection, task_id: str) -> dict[str, Any]:
    document = connection.execute(select(tasks.c.library_json).where(tasks.c.id == task_id)).scalar_one_or_none()
    return document if isinstance(document, dict) else {}


def _count_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _projects_of(task: Task) -> ColumnElement[bool]:
    if task.scope == "global":
        return of_tenant(task.tenant_id)  # type: ignore[no-any-return]
    # If a task moves a photo set, the project of the task is the target of the move, and the figures of the target
    # change, too.
    return or_(projects.c.id.in_(target_projects(task)), projects.c.id == task.project_id)
