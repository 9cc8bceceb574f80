"""Compares one project's files with its rows, by one listing of the folder and one query, in limited memory.

This module neither accesses the library nor changes rows. `storage.comparison.part_comparison` decides which image
belongs to which row. `unaccepted_names` decides which other files belong to no photo.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from storage.batches import batched
from storage.comparison.name_parts import NamePart, NameParts, PhotoFlags
from storage.comparison.part_comparison import Look, NewName, PartComparison, PhotoWithoutFile
from storage.database.driver_errors import translating_errors
from storage.database.driver_statement import DriverStatement
from storage.database.tables import photos
from storage.library.naming.companions import owner_keys
from storage.library.naming.kinds import AcceptedExtensions, FileKind
from storage.library.naming.names import is_decodable
from storage.library.scan import ListedNames
from storage.photos.availability import Availability

#: The number of rows or differences in a batch.
BATCH_SIZE = 5_000

_ROWS = DriverStatement(
    "SELECT id, filename, jpg_available, raw_available, other_available FROM photos WHERE project_id = :project_id"
)

_Found = TypeVar("_Found")


class ProjectComparison:
    """The rows of a project and the names in its folder.

    Add the rows before you list the folder. If a file appears or disappears in between, the listing then shows the
    newer state. Rows that are inserted in between are not compared, so their names count as new. Callers compare new
    names with the current rows by `known_names`.

    Args:
        extensions: the accepted extensions.
        look: describes a file; called only if the file's base name has no row, or if the flags of the row differ from
            the files on disk.
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
        """Add names from a listing of the project's folder; entries whose name is not valid UTF-8 are left out."""
        odd_names = [file.name for file in listed.odd if is_decodable(file.name)]
        self._parts.add(NamePart(names=listed.names, odd_names=odd_names))

    def differing_availability(self) -> Iterator[list[Availability]]:
        """Yield batches of photos whose availability flags differ from the files on disk.

        If all files of a kind have a problem, such as a symlink or an unreadable file, the flag of this kind is
        unchanged.
        """
        return self._found(PartComparison.differing_availability)

    def new_names(self) -> Iterator[list[NewName]]:
        """Yield batches of base names on disk without a row. All spellings of a name are one photo."""
        return self._found(PartComparison.new_names)

    def photos_without_file(self) -> Iterator[list[PhotoWithoutFile]]:
        """Yield batches of photos that have no file, neither on disk nor according to their rows."""
        return self._found(PartComparison.photos_without_file)

    def unaccepted_names(self) -> Iterator[list[str]]:
        """Yield batches of names of files that have no problem and no accepted kind, and belong to no photo."""
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
        # A file may belong to a photo in another part, so all parts are searched.
        wanted = {key for possible in unowned.values() for key in possible}
        for part in self._parts if unowned else ():
            owned |= wanted & self._keys_of_photos(part)
        yield from batched((name for name, possible in unowned.items() if owned.isdisjoint(possible)), BATCH_SIZE)

    def names_of_several(self) -> Iterator[list[str]]:
        """Yield batches of base names that several JPEGs have; only one of these JPEGs can be shown."""
        extensions = self._extensions.jpg | {extension.upper() for extension in self._extensions.jpg}
        for part in self._parts:
            seen: set[str] = set()
            several: set[str] = set()
            for name in part.names:
                base_name, _, extension = name.rpartition(".")
                if extension in extensions or extension.lower() in self._extensions.jpg:
                    (several if base_name in seen else seen).add(base_name)
            yield from batched(sorted(several - {""}), BATCH_SIZE)

    def _keys_of_photos(self, part: NamePart) -> set[str]:
        names = (name.rpartition(".")[0] for name in part.names if self._extensions.is_image(name))
        return {key for name in (*names, *(row[1] for row in part.rows)) for key in owner_keys(name)}

    def close(self) -> None:
        """Discard all rows and names."""
        self._parts.close()

    def _found(self, find: Callable[[PartComparison], list[_Found]]) -> Iterator[list[_Found]]:
        for part in self._parts:
            comparison = PartComparison(part, extensions=self._extensions, look=self._look)
            yield from batched(find(comparison), BATCH_SIZE)


def has_available_photos(connection: Connection, project_id: int) -> bool:
    """Return whether the project has a photo with a file, according to the photo's row."""
    is_available = (photos.c.jpg_available == 1) | (photos.c.raw_available == 1) | (photos.c.other_available == 1)
    statement = select(photos.c.id).where(photos.c.project_id == project_id, is_available).limit(1)
    return connection.execute(statement).first() is not None


def known_names(
    connection: Connection, project_id: int, names: Sequence[str], *, but_for: Sequence[int] = ()
) -> set[str]:
    """Return the names among `names` that are base names of photos of the project, in the same spelling.

    Photos with ids in `but_for` do not count.
    """
    statement = select(photos.c.filename).where(photos.c.project_id == project_id, photos.c.filename.in_(names))
    if but_for:
        statement = statement.where(photos.c.id.not_in(but_for))
    return set(connection.execute(statement).scalars())


def _rows(connection: Connection, project_id: int) -> Iterator[list[PhotoFlags]]:
    # The driver is used directly, because for a million rows SQLAlchemy's objects would take longer than the query.
    dialect = connection.dialect.name
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection
    # On PostgreSQL a cursor with a name fetches rows in batches; without a name, it would fetch all rows at once.
    with (
        closing(driver.cursor(*(("project_rows",) if dialect == "postgresql" else ()))) as cursor,
        translating_errors(connection.engine),
    ):
        cursor.execute(_ROWS.text(dialect), {"project_id": project_id})
        while rows := cursor.fetchmany(BATCH_SIZE):
            yield rows
