"""Checks whether an original is known to be corrupt."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.doctor.finding import Area, Finding
from storage.database.engine import Database
from storage.photos.verification import VerificationRepository

_area = Area("originals")

#: How many corrupt originals a finding names.
_NAMED = 3


def examine_originals(database: Database) -> Iterator[Finding]:
    """Check whether the verification of originals found corrupt ones."""
    corrupt = VerificationRepository(database).corrupt()
    if not corrupt:
        yield _area.fine(
            "contents", "None is known to be corrupt; `photojobs library verify` shows how many were verified."
        )
        return
    more = f" and {len(corrupt) - _NAMED} more" if len(corrupt) > _NAMED else ""
    yield _area.problem(
        "contents",
        f"{len(corrupt)} corrupt, with other contents but the same size and times: "
        f"{', '.join(one.path for one in corrupt[:_NAMED])}{more}.",
        "Restore from a backup what `photojobs library verify` lists, or accept it there. And check that disk.",
    )
