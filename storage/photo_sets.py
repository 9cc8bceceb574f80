"""Finds the photos that a job works on, with their projects, and checks that a payload fits into one job.

This module is for handlers, and for programs that process jobs themselves. It reads rows, and opens no files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, select

from storage.batches import batched, pages
from storage.database.column_types import check_integer
from storage.database.configured_database import configured_database
from storage.database.engine import Access, Database
from storage.database.tables import job_items, photos, projects
from storage.database.tables import jobs as jobs_table
from storage.default_tenant import DEFAULT_TENANT
from storage.library.paths import Library
from storage.lifecycle.step_jobs import is_active, of_tenant
from storage.records import Job, JobItem, Photo, Project
from storage.settings import Settings
from task_definitions import MAX_ITEMS_PER_JOB

#: The number of items or photos that one statement reads.
BATCH_SIZE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTarget:
    """A photo of a job with its project, and its item if the job has items."""

    photo: Photo
    project: Project
    item: JobItem | None = None


@dataclass(frozen=True, slots=True)
class ProjectPhotos:
    """A project, and its photos that items name; an object can be unpacked as `project, photos`."""

    project: Project
    photos: tuple[Photo, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.project, self.photos))


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSize:
    """Whether the lists of a payload are short enough for one job; if not, `message` explains what to do.

    `count` is the length of the longest list.
    """

    valid: bool
    message: str | None
    count: int


def resolve_job_targets(job: Job, db: Database | Connection | None = None) -> list[PhotoTarget]:
    """Return the photos of a job, depending on its scope.

    A `project` job has the photos of its project: those of its items or, without items, all. A `photo_set` job has the
    photos of its items; a `global` job has the photos of all its tenant's projects. Photos in archived projects, photos
    of other tenants and items whose photo has no row are left out. Without `db`, the database of the settings is used.

    Use `iterate_job_targets` if a job may have too many photos for memory.
    """
    return list(iterate_job_targets(job, db))


def iterate_job_targets(
    job: Job, db: Database | Connection | None = None, *, batch_size: int = BATCH_SIZE
) -> Iterator[PhotoTarget]:
    """Yield the photos that `resolve_job_targets` returns, in the order of the items or, without items, of their ids.

    Rows are read in batches of `batch_size`.
    """
    access = Access(configured_database() if db is None else db)
    if job.scope != "global" and (job.scope == "photo_set" or _has_items(access, job)):
        yield from _items_targets(access, job, batch_size)
    elif job.scope == "global" or job.project_id is not None:
        yield from _projects_targets(access, job, batch_size)


def group_items_by_project(items: Iterable[JobItem], db: Database | Connection | None = None) -> list[ProjectPhotos]:
    """Return the photos of items, grouped by project. Projects are in order of id, photos in the order of the items.

    Archived projects are included; check `project.is_archived`. Items whose photo has no row or belongs to another
    tenant are left out. A photo of several items is included once.
    """
    access = Access(configured_database() if db is None else db)
    grouped: dict[int, tuple[Project, dict[int, Photo]]] = {}
    for batch in batched(items, BATCH_SIZE):
        for item, found in locate(access, batch):
            if found is not None and _is_of_tenant(found, item):
                photos_of_project = grouped.setdefault(found.project.id, (found.project, {}))[1]
                photos_of_project.setdefault(found.photo.id, found.photo)
    return [ProjectPhotos(project, tuple(found.values())) for _, (project, found) in sorted(grouped.items())]


def chunk_photo_ids(photo_ids: Iterable[int], size: int = MAX_ITEMS_PER_JOB) -> list[list[int]]:
    """Split ids into lists of at most `size`, in their order.

    Raises:
        InvalidValue: `size` is not between 1 and `MAX_ITEMS_PER_JOB`.
    """
    check_integer(size, name="size", minimum=1, maximum=MAX_ITEMS_PER_JOB)
    return list(batched(photo_ids, size))


def validate_payload_size(
    payload: Mapping[str, Any] | Sequence[Any] | None, max_items: int = MAX_ITEMS_PER_JOB
) -> PayloadSize:
    """Check that the longest list in a payload, such as `items`, has at most `max_items` entries.

    `payload` may also be a list.
    """
    lists: dict[str, Any] = dict(payload) if isinstance(payload, Mapping) else {"payload": payload}
    name, count = max(
        ((str(key), len(value)) for key, value in lists.items() if isinstance(value, list | tuple | set | frozenset)),
        key=lambda counted: counted[1],
        default=("payload", 0),
    )
    if count <= max_items:
        return PayloadSize(valid=True, message=None, count=count)
    message = (
        f"{name}: {count} items are more than the {max_items} that one job may have. "
        "Split them with chunk_photo_ids, or enqueue them with auto_chunk=True."
    )
    return PayloadSize(valid=False, message=message, count=count)


def get_project_path(project: Project, library_root: Path | str | None = None) -> Path:
    """Return the absolute path of a project's folder, whether or not it exists: `<root>/<tenant>/<project_folder>`.

    Without `library_root`, the library of the settings is used.

    Raises:
        UnsafePath: a name could lead out of the library, or a folder on the path is a symlink or a file.
    """
    root = Settings.load().library_root if library_root is None else Path(library_root)
    return Library(root).project(project.tenant_id or DEFAULT_TENANT, project.project_folder).path


def _has_items(access: Access, job: Job) -> bool:
    statement = select(job_items.c.id).where(job_items.c.job_id == job.id).limit(1)
    with access.read() as connection:
        return connection.execute(statement).first() is not None


def _projects_targets(access: Access, job: Job, batch_size: int) -> Iterator[PhotoTarget]:
    statement = _photos_with_projects().where(of_tenant(job.tenant_id), is_active())
    if job.scope != "global":
        statement = statement.where(photos.c.project_id == job.project_id)
    for rows in pages(access.read, statement, photos.c.id.label("photos_id"), batch_size):
        yield from (PhotoTarget(photo=_photo(row), project=_project(row)) for row in rows)


def _items_targets(access: Access, job: Job, batch_size: int) -> Iterator[PhotoTarget]:
    for batch in iterate_items(access, job.id, batch_size=batch_size):
        for item, found in locate(access, batch):
            if found is None or not _is_of_tenant(found, item) or found.project.is_archived:
                continue
            if job.scope != "project" or found.project.id == job.project_id:
                yield found


def iterate_items(
    access: Access, job_id: int, *, batch_size: int = BATCH_SIZE, statuses: Sequence[str] | None = None
) -> Iterator[list[JobItem]]:
    """Yield the items of a job in batches, in order of id; with `statuses`, only items with one of these statuses."""
    statement = select(job_items).where(job_items.c.job_id == job_id)
    if statuses is not None:
        statement = statement.where(job_items.c.status.in_(statuses))
    for rows in pages(access.read, statement, job_items.c.id, batch_size):
        yield [JobItem.from_row(row) for row in rows]


def locate(access: Access, items: Sequence[JobItem]) -> Iterator[tuple[JobItem, PhotoTarget | None]]:
    """Yield each item, in the given order, with its photo and project, or with None if the photo has no row.

    The photo may belong to another tenant. If an item has no photo id, its photo is found by its name, in the project
    of the job.
    """
    by_id: dict[int, RowMapping] = {}
    by_item: dict[int, RowMapping] = {}
    with access.read() as connection:
        ids = sorted({item.photo_id for item in items if item.photo_id is not None})
        if ids:
            for row in connection.execute(_photos_with_projects().where(photos.c.id.in_(ids))).mappings():
                by_id[row["photos_id"]] = row
        named = [item.id for item in items if item.photo_id is None and item.filename is not None]
        if named:
            for row in connection.execute(_photos_by_name(named)).mappings():
                by_item.setdefault(row["item_id"], row)
    for item in items:
        found = by_item.get(item.id) if item.photo_id is None else by_id.get(item.photo_id)
        yield item, None if found is None else PhotoTarget(photo=_photo(found), project=_project(found), item=item)


def _is_of_tenant(target: PhotoTarget, item: JobItem) -> bool:
    return (target.project.tenant_id or DEFAULT_TENANT) == item.tenant_id


def _photos_with_projects() -> Select[Any]:
    return select(
        *(column.label(f"photos_{column.name}") for column in photos.columns),
        *(column.label(f"projects_{column.name}") for column in projects.columns),
    ).join_from(photos, projects, projects.c.id == photos.c.project_id)


def _photos_by_name(item_ids: Sequence[int]) -> Select[Any]:
    return (
        _photos_with_projects()
        .add_columns(job_items.c.id.label("item_id"))
        .join(job_items, job_items.c.filename == photos.c.filename)
        .join(jobs_table, and_(jobs_table.c.id == job_items.c.job_id, jobs_table.c.project_id == photos.c.project_id))
        .where(job_items.c.id.in_(item_ids))
        .order_by(photos.c.id)
    )


def _photo(row: RowMapping) -> Photo:
    return Photo.from_row({column.name: row[f"photos_{column.name}"] for column in photos.columns})


def _project(row: RowMapping) -> Project:
    return Project.from_row({column.name: row[f"projects_{column.name}"] for column in projects.columns})
