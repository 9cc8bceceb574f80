"""Reads and writes the rows for the verification of originals: originals to verify next, results, and coverage.

The step `verify_originals` reads the files. Its params `bytes_per_run` and `megabytes_per_second` limit a run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, bindparam, case, func, literal, select, tuple_, update
from sqlalchemy.engine import Connection

from storage.batches import BATCH_SIZE, batched
from storage.database.column_types import UtcTimestamp
from storage.database.engine import Access, Database
from storage.database.tables import photo_derivatives, photo_originals, photos, projects
from storage.lifecycle.step_jobs import is_active, of_tenant
from storage.photos.originals import Original, OriginalsRepository
from storage.records import Record

#: A time that is later than now by more than this is wrong: it was written before a clock was set back.
_MAX_CLOCK_ERROR: Final = timedelta(days=1)

#: The periods of `Coverage.within`, in days.
COVERAGE_DAYS: Final = (7, 30, 90, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of reading one original.

    Attributes:
        before: the row as it was when the file was read.
        after: the row with the result.
        is_same: whether the contents have the known hash.
    """

    before: Original
    after: Original
    is_same: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number of originals and their total size."""

    originals: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Amounts of originals in active projects by the time of their last successful verification.

    Attributes:
        all: all originals that exist and have a known size.
        within: for each number of days in `COVERAGE_DAYS`, the originals that were verified within these days.
        earlier: originals that were verified before the longest of these periods.
        never: originals that were never verified.
        corrupt: originals whose contents changed while size and times stayed the same.
        unreadable: originals that could not be read at the last attempt.
    """

    all: Amount
    within: dict[int, Amount]
    earlier: Amount
    never: Amount
    corrupt: Amount
    unreadable: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptOriginal(Record):
    """An original whose contents changed while its size and times stayed the same.

    Attributes:
        verified_at: when the contents were last read and correct; None if unknown.
        corrupt_since: when the different contents were first found.
    """

    photo_id: int
    name: str
    tenant_id: str | None
    project_id: int
    project_name: str
    project_folder: str
    size_bytes: int
    verified_at: datetime | None
    corrupt_since: datetime

    @property
    def path(self) -> str:
        """The file's path, relative to the tenant's folder."""
        return f"{self.project_folder}/{self.name}"


class VerificationRepository:
    """Reads and writes the columns of `photo_originals` that concern verification."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def oldest(self, *, before: datetime) -> Iterator[list[tuple[int, Original]]]:
        """Yield batches of originals of all tenants with their projects' ids.

        Originals that were never read come first. Originals that were last read before the time `before` follow, the
        earliest first, and then those whose time is in the future. Each batch is a new query, so that rows can be
        written in between.
        """
        checked_at, key = photo_originals.c.checked_at, (photo_originals.c.photo_id, photo_originals.c.name)
        for is_known, is_due in (
            (False, checked_at.is_(None)),
            (True, checked_at < before),
            (True, checked_at > self._latest()),
        ):
            statement = select(photo_originals).where(photo_originals.c.size_bytes.is_not(None), is_due)
            last: Original | None = None
            while True:
                page = statement
                if last is not None:
                    place = (literal(last.photo_id), literal(last.name))
                    if is_known:
                        moment = literal(last.checked_at, UtcTimestamp())
                        page = page.where(tuple_(checked_at, *key) > tuple_(moment, *place))
                    else:
                        page = page.where(tuple_(*key) > tuple_(*place))
                with self._access.read() as connection:
                    rows = connection.execute(page.order_by(checked_at, *key).limit(BATCH_SIZE)).mappings().all()
                    found = [Original.from_row(row) for row in rows]
                    own = select(photos.c.id, photos.c.project_id).where(
                        photos.c.id.in_([one.photo_id for one in found])
                    )
                    project_of = {row.id: row.project_id for row in connection.execute(own)}
                if not found:
                    break
                last = found[-1]
                yield [(project_of[one.photo_id], one) for one in found if one.photo_id in project_of]

    def to_read(self, *, tenant_id: str, before: datetime) -> int:
        """Return the total bytes of the originals that `oldest` yields, in active projects of a tenant."""
        is_due = (photo_originals.c.checked_at < before) | (photo_originals.c.checked_at > self._latest())
        return self._bytes(tenant_id, func.coalesce(is_due, True))

    def read_since(self, *, tenant_id: str, since: datetime) -> int:
        """Return the total bytes of originals that were read at or after `since`, in active projects of a tenant."""
        return self._bytes(tenant_id, photo_originals.c.checked_at.between(since, self._latest()))

    def enter(self, originals: Sequence[Original]) -> None:
        """Insert rows for originals that have no row yet and whose photos still exist."""
        with self._access.write() as connection:
            known = _locked(connection, {one.photo_id for one in originals})
            OriginalsRepository(connection).save_many(
                [one for one in originals if one.name not in known.get(one.photo_id, {one.name})]
            )

    def write(self, verified: Sequence[Verified]) -> set[Verified]:
        """Write the results of reading originals; return the results that were written.

        A result is left out if the original's row changed since the file was read, because the result may be outdated.
        """
        with self._access.write() as connection:
            known = _locked(connection, {one.before.photo_id for one in verified})
            written = [one for one in verified if known.get(one.before.photo_id, {}).get(one.before.name) == one.before]
            renewed = [
                {
                    "of_photo": one.before.photo_id,
                    "of_name": one.before.name,
                    "old": one.before.content_hash,
                    "new": one.after.content_hash,
                }
                for one in written
                if one.is_same and one.before.content_hash != one.after.content_hash
            ]
            if renewed:
                connection.execute(_RENEW, renewed)
            OriginalsRepository(connection).save_many([one.after for one in written])
        return set(written)

    def coverage(self, *, now: datetime, tenant_id: str | None = None) -> Coverage:
        """Return the coverage of one tenant's originals, or of all originals."""
        table = photo_originals.c
        is_there = table.missing_since.is_(None) & table.size_bytes.is_not(None)
        is_right = table.corrupt_since.is_(None) & table.verified_at.is_not(None)
        parts: dict[str, Any] = {
            "all": literal(True),
            "earlier": is_right & (table.verified_at < now - timedelta(days=COVERAGE_DAYS[-1])),
            "never": table.verified_at.is_(None) & table.corrupt_since.is_(None),
            "corrupt": table.corrupt_since.is_not(None),
            "unreadable": table.corrupt_since.is_(None)
            & table.checked_at.is_not(None)
            & func.coalesce(table.verified_at < table.checked_at, True),
            **{str(days): is_right & (table.verified_at >= now - timedelta(days=days)) for days in COVERAGE_DAYS},
        }
        columns: list[Any] = [func.count(case((part, 1))).label(f"count_{name}") for name, part in parts.items()]
        columns += [
            func.coalesce(func.sum(case((part, table.size_bytes))), 0).label(f"bytes_{name}")
            for name, part in parts.items()
        ]
        statement = _of_active_projects(select(*columns), tenant_id).where(is_there)
        with self._access.read() as connection:
            row = connection.execute(statement).mappings().one()

        def amount(name: str) -> Amount:
            return Amount(originals=row[f"count_{name}"], size_bytes=int(row[f"bytes_{name}"]))

        return Coverage(
            within={days: amount(str(days)) for days in COVERAGE_DAYS},
            **{name: amount(name) for name in ("all", "earlier", "never", "corrupt", "unreadable")},
        )

    def corrupt(self, *, tenant_id: str | None = None) -> list[CorruptOriginal]:
        """Return the corrupt originals of active projects, ordered by project and name."""
        columns: tuple[Any, ...] = (
            photo_originals.c.photo_id,
            photo_originals.c.name,
            photo_originals.c.size_bytes,
            photo_originals.c.verified_at,
            photo_originals.c.corrupt_since,
            projects.c.tenant_id,
            projects.c.id.label("project_id"),
            projects.c.project_name,
            projects.c.project_folder,
        )
        statement = _of_active_projects(select(*columns), tenant_id).where(_IS_CORRUPT)
        with self._access.read() as connection:
            rows = connection.execute(statement.order_by(projects.c.id, photo_originals.c.name)).mappings()
            return [CorruptOriginal.from_row(row) for row in rows]

    def count_corrupt(self, *, tenant_id: str | None = None) -> int:
        """Return the number of corrupt originals of active projects."""
        statement = _of_active_projects(select(func.count()), tenant_id).where(_IS_CORRUPT)
        with self._access.read() as connection:
            return int(connection.execute(statement).scalar_one())

    def _latest(self) -> datetime:
        return self._access.clock() + _MAX_CLOCK_ERROR

    def _bytes(self, tenant_id: str, condition: Any) -> int:
        size_bytes = func.coalesce(func.sum(photo_originals.c.size_bytes), 0)
        statement = _of_active_projects(select(size_bytes), tenant_id).where(condition)
        with self._access.read() as connection:
            return int(connection.execute(statement).scalar_one())


def _of_active_projects(statement: Select[Any], tenant_id: str | None) -> Select[Any]:
    joined = statement.select_from(photo_originals.join(photos).join(projects))
    return joined.where(is_active(), *([] if tenant_id is None else [of_tenant(tenant_id)]))


def _locked(connection: Connection, photo_ids: set[int]) -> dict[int, dict[str, Original]]:
    """Return the originals of the photos that exist, and lock these photos until the transaction ends."""
    found: list[int] = []
    for batch in batched(sorted(photo_ids)):
        own = photos.c.id.in_(batch)
        found += connection.execute(select(photos.c.id).where(own).order_by(photos.c.id).with_for_update()).scalars()
    return OriginalsRepository(connection).get_many(found)


_IS_CORRUPT = photo_originals.c.corrupt_since.is_not(None)

_RENEW = (
    update(photo_derivatives)
    .where(
        photo_derivatives.c.photo_id == bindparam("of_photo"),
        photo_derivatives.c.source_name == bindparam("of_name"),
        photo_derivatives.c.source_hash == bindparam("old"),
    )
    .values(source_hash=bindparam("new"))
)
