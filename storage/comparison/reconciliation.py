"""One project's files beside its rows: one listing, one query, and a comparison that memory does not grow with.

Nothing here touches the disk or changes a row. `storage.comparison.part_comparison` says how a file finds its photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from storage.comparison.name_parts import NamePart, NameParts, PhotoFlags
from storage.comparison.part_comparison import Look, NewName, PartComparison, PhotoWithoutFile
from storage.database.driver_statement import DriverStatement
from storage.database.engine import storage_error
from storage.database.tables import photos
from storage.library.companions import owner_keys
from storage.library.kinds import AcceptedExtensions, FileKind
from storage.library.listing import ListedNames
from storage.library.names import is_decodable
from storage.photos.availability import Availability

#: Rows read at a time, and differences handed out at a time.
BATCH_SIZE = 5_000

_ROWS = DriverStatement(
    "SELECT id, filename, jpg_available, raw_available, other_available FROM photos WHERE project_id = :project_id"
)

_Found = TypeVar("_Found")


class ProjectComparison:
    """The rows of a project and the names in its folder.

    Take the rows in before the folder is listed: of a file that comes or goes meanwhile, the disk then tells the later
    state, and a photo that gets its row meanwhile is left out of all that follows.

    Args:
        extensions: those that make a file part of a photo.
        look: looks at a file; asked only about files from which something new would be concluded.
    """

    def __init__(self, *, extensions: AcceptedExtensions, look: Look) -> None:
        self._extensions = extensions
        self._look = look
        self._parts = NameParts(lambda name: extensions.describe(name).base_name)

    def add_rows(self, connection: Connection, project_id: int) -> None:
        """Read the rows of a project, by one query."""
        for rows in _rows(connection, project_id):
            self._parts.add(NamePart(rows=rows))

    def add_names(self, listed: ListedNames) -> None:
        """Take in what a listing of the project's folder found; names that no database can hold are left out."""
        odd_names = [file.name for file in listed.odd if is_decodable(file.name)]
        self._parts.add(NamePart(names=listed.names, odd_names=odd_names))

    def differing_availability(self) -> Iterator[list[Availability]]:
        """The photos whose availability is not what the disk says, a batch at a time.

        What is there and may not be touched (a symlink, an unreadable file) leaves its flag as it is.
        """
        return self._found(PartComparison.differing_availability)

    def new_names(self) -> Iterator[list[NewName]]:
        """The base names of photos on disk that no row stands for, a batch at a time.

        Spellings of one name are one photo.
        """
        return self._found(PartComparison.new_names)

    def photos_without_file(self) -> Iterator[list[PhotoWithoutFile]]:
        """The photos with no file, neither by their row nor on disk, a batch at a time."""
        return self._found(PartComparison.photos_without_file)

    def unaccepted_names(self) -> Iterator[list[str]]:
        """The names of files of no accepted kind that may be touched and belong to no photo, a batch at a time."""
        unowned: dict[str, list[str]] = {}
        owned: set[str] = set()
        for part in self._parts:
            keys: set[str] | None = None
            for name in part.names:
                if self._extensions.is_image(name) or self._extensions.describe(name).kind is not FileKind.UNACCEPTED:
                    continue
                keys = self._keys_of_photos(part) if keys is None else keys
                possible = [fit.key for fit in self._extensions.fits(name)]
                if keys.isdisjoint(possible):
                    unowned[name] = possible
        # A name may mean a photo of another part.
        wanted = {key for possible in unowned.values() for key in possible}
        for part in self._parts if unowned else ():
            owned |= wanted & self._keys_of_photos(part)
        yield from _batches([name for name, possible in unowned.items() if owned.isdisjoint(possible)])

    def names_of_several(self) -> Iterator[list[str]]:
        """The base names that more than one JPEG has, of which only one can be shown, a batch at a time."""
        extensions = self._extensions.jpg | {extension.upper() for extension in self._extensions.jpg}
        for part in self._parts:
            seen: set[str] = set()
            several: set[str] = set()
            for name in part.names:
                base_name, _, extension = name.rpartition(".")
                if extension in extensions or extension.lower() in self._extensions.jpg:
                    (several if base_name in seen else seen).add(base_name)
            yield from _batches(sorted(several - {""}))

    def _keys_of_photos(self, part: NamePart) -> set[str]:
        names = (name.rpartition(".")[0] for name in part.names if self._extensions.is_image(name))
        return {key for name in (*names, *(row[1] for row in part.rows)) for key in owner_keys(name)}

    def parts(self) -> Iterator[tuple[NamePart, PartComparison]]:
        """Each part with its comparison."""
        for part in self._parts:
            yield part, PartComparison(part, extensions=self._extensions, look=self._look)

    def close(self) -> None:
        """Forget everything."""
        self._parts.close()

    def _found(self, find: Callable[[PartComparison], list[_Found]]) -> Iterator[list[_Found]]:
        for _, comparison in self.parts():
            yield from _batches(find(comparison))


def has_available_photos(connection: Connection, project_id: int) -> bool:
    """Whether a row of a project says that its photo has a file."""
    is_available = (photos.c.jpg_available == 1) | (photos.c.raw_available == 1) | (photos.c.other_available == 1)
    statement = select(photos.c.id).where(photos.c.project_id == project_id, is_available).limit(1)
    return connection.execute(statement).first() is not None


def known_names(connection: Connection, project_id: int, names: Sequence[str]) -> set[str]:
    """Those of the names that a row of the project has, spelled exactly so."""
    statement = select(photos.c.filename).where(photos.c.project_id == project_id, photos.c.filename.in_(names))
    return set(connection.execute(statement).scalars())


def names_of_other_photos(
    connection: Connection, project_id: int, names: Sequence[str], ids: Sequence[int]
) -> set[str]:
    """Those of the names that a photo of the project has which is not one of `ids`."""
    statement = select(photos.c.filename).where(
        photos.c.project_id == project_id, photos.c.filename.in_(names), photos.c.id.not_in(ids)
    )
    return set(connection.execute(statement).scalars())


def _rows(connection: Connection, project_id: int) -> Iterator[list[PhotoFlags]]:
    # From the driver itself: to make SQLAlchemy's objects of a million rows takes longer than to read them.
    dialect = connection.dialect.name
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection
    # On PostgreSQL a cursor of the server: without a name, all rows would come at once.
    with closing(driver.cursor(*(("project_rows",) if dialect == "postgresql" else ()))) as cursor:
        try:
            cursor.execute(_ROWS.text(dialect), {"project_id": project_id})
            while rows := cursor.fetchmany(BATCH_SIZE):
                yield rows
        except Exception as error:
            translated = storage_error(error, connection.engine)
            if translated is None:
                raise
            raise translated from error


def _batches(found: Sequence[_Found]) -> Iterator[list[_Found]]:
    for start in range(0, len(found), BATCH_SIZE):
        yield list(found[start : start + BATCH_SIZE])
