"""Accepts a corrupt original: its current content then counts as correct."""

from __future__ import annotations

from deployments.errors import DeploymentsError
from flows.imaging.fingerprint import read_source
from flows.steps.images.observation import fingerprint_of, with_fingerprint
from storage.comparison.derivative_scan import mark_changed
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.photos.originals import OriginalsRepository
from storage.photos.verification import VerificationRepository, Verified
from storage.settings import Settings


class NotAccepted(DeploymentsError):
    """An original is not recorded as corrupt, or has changed meanwhile; or several tenants have one at its path."""


def accept_original(database: Database, settings: Settings, path: str, *, tenant_id: str | None = None) -> None:
    """Read a corrupt original, and accept its current content as correct.

    The next upkeep makes the original's thumbnail and preview again, and reads its metadata again.

    `path` is the path of the original below the folder of its tenant. Without `tenant_id`, the originals of all tenants
    are searched.

    Raises:
        NotAccepted: the original is not recorded as corrupt, several tenants have a corrupt one at this path, or the
            file or its row changed meanwhile.
        ImagingError: the file is missing or cannot be read.
    """
    known = {
        one.tenant_id or DEFAULT_TENANT: one
        for one in VerificationRepository(database).corrupt(tenant_id=tenant_id)
        if one.path == path
    }
    if not known:
        raise NotAccepted(f"{path} is not recorded as corrupt. `photojobs library verify` lists the corrupt originals.")
    if len(known) > 1:
        raise NotAccepted(
            f"{path} is not accepted, because several tenants have a corrupt original at this path. Name one of them "
            f"with --tenant: {', '.join(sorted(known))}."
        )
    ((owner, corrupt),) = known.items()
    before = OriginalsRepository(database).get_many([corrupt.photo_id])[corrupt.photo_id].get(corrupt.name)
    fingerprint = None if before is None else fingerprint_of(before)
    folder = settings.library.project(owner, corrupt.project_folder)
    is_written = False
    if before is not None and fingerprint is not None:
        found = read_source(folder.original(corrupt.name), fingerprint).fingerprint
        if found.content_hash is not None:
            now = database.clock()
            with database.begin() as connection:
                after = with_fingerprint(before, found, now=now, accepts=True)
                verified = Verified(before=before, after=after)
                is_written = verified in VerificationRepository(connection).write([verified])
                if is_written:
                    mark_changed(connection, [after], now=now)
    if not is_written:
        raise NotAccepted(
            f"{path} is not accepted, because the file or its row changed meanwhile. Look at `photojobs library "
            "verify`, then try again."
        )
