"""Searches a tenant's originals by size, to find the photo that has the same contents as a new file.

`flows.steps.following.arrival_pairs` decides which file is which photo.
"""

from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from storage.batches import BATCH_SIZE, batched
from storage.database.tables import photo_originals, photos, projects
from storage.lifecycle.step_jobs import of_tenant
from storage.photos.originals import Original


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOriginal:
    """An original with a known content hash.

    Attributes:
        base_name: the photo's base name.
        name: the file's name.
        kind: `jpg`, `raw` or `other`.
        content_hash: `algorithm:hexadecimal`.
    """

    photo_id: int
    project_id: int
    base_name: str
    name: str
    kind: str
    size_bytes: int
    content_hash: str


def projects_of_sizes(connection: Connection, sizes: Collection[int], *, tenant_id: str) -> set[int]:
    """Return the ids of the projects of the originals that `originals_of_sizes` yields."""
    found: set[int] = set()
    for statement in _of_sizes(photos.c.project_id, sizes=sizes, tenant_id=tenant_id):
        found |= set(connection.execute(statement.distinct()).scalars())
    return found


def originals_of_sizes(connection: Connection, sizes: Collection[int], *, tenant_id: str) -> Iterator[KnownOriginal]:
    """Yield the tenant's originals that have one of these sizes and a known content hash, in no particular order."""
    columns = (
        photo_originals.c.photo_id,
        photos.c.project_id,
        photos.c.filename.label("base_name"),
        photo_originals.c.name,
        photo_originals.c.kind,
        photo_originals.c.size_bytes,
        photo_originals.c.content_hash,
    )
    for statement in _of_sizes(*columns, sizes=sizes, tenant_id=tenant_id):
        rows = connection.execute(statement, execution_options={"yield_per": BATCH_SIZE}).mappings()
        for row in rows:
            yield KnownOriginal(**row)


def _of_sizes(*columns: ColumnElement[Any], sizes: Collection[int], tenant_id: str) -> Iterator[Select[Any]]:
    for batch in batched(sorted(sizes)):
        yield (
            select(*columns)
            .select_from(photo_originals)
            .join(photos, photos.c.id == photo_originals.c.photo_id)
            .join(projects, projects.c.id == photos.c.project_id)
            .where(
                photo_originals.c.size_bytes.in_(batch),
                photo_originals.c.content_hash.is_not(None),
                of_tenant(tenant_id),
            )
        )


def originals_of_project(connection: Connection, project_id: int) -> Generator[Original]:
    """Yield all originals of a project's photos, in no particular order."""
    statement = (
        select(photo_originals)
        .join(photos, photos.c.id == photo_originals.c.photo_id)
        .where(photos.c.project_id == project_id)
    )
    with connection.execute(statement, execution_options={"yield_per": BATCH_SIZE}) as result:
        for row in result.mappings():
            yield Original.from_row(row)


def count_known_photos(connection: Connection, project_id: int) -> int:
    """Return the number of photos of a project that have an existing original with a known content hash."""
    statement = (
        select(func.count(func.distinct(photo_originals.c.photo_id)))
        .join(photos, photos.c.id == photo_originals.c.photo_id)
        .where(
            photos.c.project_id == project_id,
            photo_originals.c.content_hash.is_not(None),
            photo_originals.c.missing_since.is_(None),
        )
    )
    return int(connection.execute(statement).scalar_one())
