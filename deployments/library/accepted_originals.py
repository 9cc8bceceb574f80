"""Accepting the contents of a corrupt original: what it holds now counts as right from then on."""

from __future__ import annotations

from deployments.errors import DeploymentsError
from flows.imaging.fingerprint import read_source
from flows.steps.images.observation import fingerprint_of, with_fingerprint
from storage.comparison.derivative_scan import mark_changed
from storage.database.engine import Database
from storage.library import Library
from storage.lifecycle.step_jobs import DEFAULT_TENANT
from storage.photos.originals import OriginalsRepository
from storage.photos.verification import VerificationRepository, Verified
from storage.settings import Settings


class NotCorrupt(DeploymentsError):
    """An original that was to be accepted is not known to be corrupt, or has changed meanwhile."""


def accept_original(database: Database, settings: Settings, path: str, *, tenant_id: str | None = None) -> None:
    """Take the contents of a corrupt original for right, as they are now; reads the file.

    Thumbnail, preview and metadata are made anew by the next upkeep.

    Args:
        database: where it is known to be corrupt.
        settings: name the library's root.
        path: of the original, below its tenant's folder.
        tenant_id: whose it is; by default of any tenant.

    Raises:
        NotCorrupt: no such original is corrupt, or it was written to meanwhile.
        ImagingError: the file is missing or cannot be read.
    """
    known = {one.path: one for one in VerificationRepository(database).corrupt(tenant_id=tenant_id)}
    if path not in known:
        raise NotCorrupt(f"{path}: is not known to be corrupt. `photojobs library verify` lists what is.")
    corrupt = known[path]
    before = OriginalsRepository(database).get_many([corrupt.photo_id])[corrupt.photo_id].get(corrupt.name)
    fingerprint = None if before is None else fingerprint_of(before)
    folder = Library(settings.library_root).project(corrupt.tenant_id or DEFAULT_TENANT, corrupt.project_folder)
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
        raise NotCorrupt(f"{path}: was changed meanwhile. Look again by `photojobs library verify`.")
