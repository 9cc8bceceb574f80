"""Checks whether originals are recorded as corrupt."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.doctor.finding import Area, Finding
from storage.database.engine import Database
from storage.photos.verification import VerificationRepository
from task_definitions.wording import quantity

_area = Area("originals")

#: How many corrupt originals a finding names.
_NAMED = 3


def examine_originals(database: Database) -> Iterator[Finding]:
    """Check whether the verification of originals has found corrupt ones."""
    corrupt = VerificationRepository(database).corrupt()
    if not corrupt:
        yield _area.fine(
            "contents", "No original is recorded as corrupt; `photojobs library verify` shows how many were verified."
        )
        return
    more = f" and {len(corrupt) - _NAMED} more" if len(corrupt) > _NAMED else ""
    yield _area.problem(
        "contents",
        f"{quantity(len(corrupt), 'original')} with changed contents, but the same size and times: "
        f"{', '.join(one.path for one in corrupt[:_NAMED])}{more}.",
        "Check the disk. `photojobs library verify` lists the corrupt originals: restore them from a backup, or accept "
        "them with --accept.",
    )
