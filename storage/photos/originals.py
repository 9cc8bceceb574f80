"""The table `photo_originals`: the state of each image file of a photo when it was last checked.

If size, mtime and ctime of a file are unchanged, the file counts as unchanged; otherwise its hash decides. The row of
a derivative has the hash of its original (`storage.photos.derivatives`). `storage.library` handles the files.
`flows.imaging.fingerprint` compares sizes, times and hashes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, case, delete, exists, func, insert, literal, or_, select, update

from storage.batches import batched
from storage.database.column_types import UtcTimestamp
from storage.database.engine import Access, Database
from storage.database.tables import photo_derivatives, photo_originals, photos
from storage.library.naming.names import name_key
from storage.photos.upsert import upsert
from storage.records import Record

#: The kinds of originals.
ORIGINAL_KINDS: Final = ("jpg", "raw", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Original(Record):
    """A row of `photo_originals`.

    Attributes:
        kind: `jpg`, `raw` or `other`.
        size_bytes: the file's size; None if the file was never seen. Then its times are None, too.
        mtime_ns: when the contents last changed, in nanoseconds since 1970.
        ctime_ns: when the contents or the inode last changed, in nanoseconds since 1970; None if unknown.
        content_hash: `algorithm:hexadecimal`; None if the present file was never fully read.
        hashed_at: when `content_hash` was first computed.
        verified_at: when the contents were last read and had the hash `content_hash`.
        missing_since: when the file was found missing; None if it exists.
        checked_at: when the contents of the present file were last read, or could not be read; None if never.
        corrupt_since: when different contents with the same size and times were first found; None if the file counts
            as intact.
        corrupt_hash: the hash of these different contents.
    """

    photo_id: int
    name: str
    kind: str
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    content_hash: str | None = None
    hashed_at: datetime | None = None
    verified_at: datetime | None = None
    missing_since: datetime | None = None
    checked_at: datetime | None = None
    corrupt_since: datetime | None = None
    corrupt_hash: str | None = None


class OriginalsRepository:
    """The originals of photos, read and written in batches."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def get_many(self, photo_ids: Sequence[int]) -> dict[int, dict[str, Original]]:
        """Return the originals of these photos, by photo id and file name; every photo has an entry."""
        found: dict[int, dict[str, Original]] = {photo_id: {} for photo_id in photo_ids}
        with self._access.read() as connection:
            for batch in batched(photo_ids):
                statement = select(photo_originals).where(photo_originals.c.photo_id.in_(batch))
                for row in connection.execute(statement).mappings():
                    found[row["photo_id"]][row["name"]] = Original.from_row(row)
        return found

    def save_many(self, originals: Sequence[Original]) -> None:
        """Insert rows, or replace the rows of the same photo and name.

        If an unchanged file gets its first hash, the rows of its derivatives without a source hash get this hash.
        """
        if not originals:
            return
        with self._access.write() as connection:
            hashed = [
                {
                    "of_photo": original.photo_id,
                    "of_name": original.name,
                    "of_size": original.size_bytes,
                    "of_mtime": original.mtime_ns,
                    "of_ctime": original.ctime_ns,
                    "found_hash": original.content_hash,
                }
                for original in originals
                if original.content_hash is not None
            ]
            if hashed:
                connection.execute(_ADOPT_HASH, hashed)
            upsert(connection, photo_originals, [asdict(original) for original in originals])

    def mark_missing(self, photo_ids: Sequence[int], kinds: Sequence[str], *, now: datetime) -> None:
        """Mark the files of these kinds as missing from now on; a file that is already missing keeps its time.

        If all kinds are given, a photo without rows of originals gets a row, so that the time is stored. This row has
        the photo's name, but no size and times. If a user marked a file of the photo for removal, the row has the kind
        of that file, so that the mark stays when the file is back. The row of the photo must therefore still have the
        availability from before.
        """
        if not kinds:
            return
        with self._access.write() as connection:
            own = photo_originals.c.photo_id == photos.c.id
            kind = case(
                ((photos.c.jpg_available == 1) & (photos.c.keep_jpg == 0), "jpg"),
                ((photos.c.raw_available == 1) & (photos.c.keep_raw == 0), "raw"),
                else_="other",
            )
            placeholder = select(photos.c.id, photos.c.filename, kind, literal(now, UtcTimestamp())).where(
                photos.c.id.in_(photo_ids), ~exists().where(own)
            )
            if len(kinds) == len(ORIGINAL_KINDS):
                names = ["photo_id", "name", "kind", "missing_since"]
                connection.execute(insert(photo_originals).from_select(names, placeholder))
            connection.execute(
                update(photo_originals)
                .where(
                    photo_originals.c.photo_id.in_(photo_ids),
                    photo_originals.c.kind.in_(kinds),
                    photo_originals.c.missing_since.is_(None),
                )
                .values(missing_since=now)
            )

    def mark_found(self, photo_ids: Sequence[int], kinds: Sequence[str]) -> None:
        """Mark the files of these kinds as not missing.

        Remove the rows that `mark_missing` added for photos without rows.
        """
        if not kinds:
            return
        of_photos = photo_originals.c.photo_id.in_(photo_ids)
        with self._access.write() as connection:
            connection.execute(
                delete(photo_originals).where(
                    of_photos, photo_originals.c.size_bytes.is_(None), photo_originals.c.content_hash.is_(None)
                )
            )
            connection.execute(
                update(photo_originals)
                .where(of_photos, photo_originals.c.kind.in_(kinds), photo_originals.c.missing_since.is_not(None))
                .values(missing_since=None)
            )

    def missing_since(self, photo_ids: Sequence[int]) -> dict[int, datetime]:
        """Return since when all files of a photo are missing, by photo id; leave out photos that have a file."""
        statement = (
            select(photo_originals.c.photo_id, func.max(photo_originals.c.missing_since, type_=UtcTimestamp()))
            .where(photo_originals.c.photo_id.in_(photo_ids))
            .group_by(photo_originals.c.photo_id)
            .having(func.count() == func.count(photo_originals.c.missing_since))
        )
        with self._access.read() as connection:
            return {row.photo_id: row[1] for row in connection.execute(statement)}

    def rename(self, names: Mapping[int, tuple[str, str]]) -> None:
        """Rename the originals of photos; `names` has the old and the new base name of each photo.

        If two files would get the same name, the file that is spelled as its photo gets it, and the row of the other
        file keeps its name.
        """
        with self._access.write() as connection:
            renamed = []
            for photo_id, originals in OriginalsRepository(connection).get_many(list(names)).items():
                old, new = names[photo_id]
                taken = set(originals)
                for name in sorted(originals, key=lambda name: (not name.startswith(old), name)):
                    new_name = name_after_rename(name, old, new)
                    if new_name not in taken:
                        taken.add(new_name)
                        renamed.append({"of_photo": photo_id, "of_name": name, "new_name": new_name})
            if renamed:
                connection.execute(_RENAME, renamed)

    def forget_kinds(self, kinds: Mapping[int, Iterable[str]]) -> None:
        """Remove the rows of originals whose files were removed intentionally; `kinds` has the kinds by photo id."""
        rows = [{"of_photo": photo_id, "of_kind": str(kind)} for photo_id, own in kinds.items() for kind in own]
        if rows:
            with self._access.write() as connection:
                connection.execute(_FORGET_KIND, rows)

    def forget(self, files: Iterable[tuple[int, str]]) -> None:
        """Remove the rows of originals, given as pairs of photo id and file name."""
        rows = [{"of_photo": photo_id, "of_name": name} for photo_id, name in files]
        if rows:
            with self._access.write() as connection:
                connection.execute(_FORGET, rows)


def name_after_rename(name: str, old: str, new: str) -> str:
    """Return the name of a photo's file after the base name of the photo changes from `old` to `new`.

    The base name of the file may be spelled differently from the photo's. A file that does not have the photo's name
    keeps its name.
    """
    base_name, dot, extension = name.rpartition(".")
    if dot and name_key(base_name) == name_key(old):
        return f"{new}.{extension}"
    return new if name == old else name


_IS_NAMED = (photo_originals.c.photo_id == bindparam("of_photo")) & (photo_originals.c.name == bindparam("of_name"))
_RENAME = update(photo_originals).where(_IS_NAMED).values(name=bindparam("new_name"))
_FORGET = delete(photo_originals).where(_IS_NAMED)

_FORGET_KIND = delete(photo_originals).where(
    photo_originals.c.photo_id == bindparam("of_photo"), photo_originals.c.kind == bindparam("of_kind")
)

_ADOPT_HASH = (
    update(photo_derivatives)
    .where(
        photo_derivatives.c.photo_id == bindparam("of_photo"),
        photo_derivatives.c.source_name == bindparam("of_name"),
        photo_derivatives.c.source_hash.is_(None),
        exists().where(
            _IS_NAMED,
            photo_originals.c.content_hash.is_(None),
            photo_originals.c.size_bytes == bindparam("of_size"),
            photo_originals.c.mtime_ns == bindparam("of_mtime"),
            or_(photo_originals.c.ctime_ns.is_(None), photo_originals.c.ctime_ns == bindparam("of_ctime")),
        ),
    )
    .values(source_hash=bindparam("found_hash"))
)
