"""Checks free space and clocks. `deployments.doctor.examination` calls each check.

A difference of clocks is a problem from half of the setting `stale_seconds` on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from sqlalchemy import text

from deployments.doctor.file_systems import space
from deployments.doctor.finding import Area, Finding
from deployments.doctor.installation import SERVER_SECONDS
from deployments.server.server_api import opened_url
from storage.database.engine import Database
from storage.settings import Settings

_space, _clocks = Area("space"), Area("clocks")

#: Less free space is a problem, because work stops; less than ten times as much is a warning.
NEEDED_BYTES = 200_000_000

#: The largest tolerated difference of two clocks; a larger one makes waiting times and ages wrong.
TOLERATED_SECONDS = 2.0


def examine_space(settings: Settings, database: Database) -> Iterator[Finding]:
    """Check the free space for the library, the database and temporary files."""
    places = [
        ("library", "the library", settings.library_root),
        ("temporary", "temporary files", Path(tempfile.gettempdir())),
    ]
    if database.path is not None:
        places.append(("database", "the database", database.path))
    for name, whose, path in places:
        free, total = space(path)
        if total == 0:
            yield _space.fine(name, f"The file system of {whose} ({path}) does not report its size.")
            continue
        says = f"{_gigabytes(free)} of {_gigabytes(total)} are free for {whose} ({path})."
        if free < NEEDED_BYTES:
            yield _space.problem(name, says, "Free some space: thumbnails, previews and rows need it.")
        elif free < 10 * NEEDED_BYTES:
            yield _space.warning(name, says, "Free some space soon.")
        else:
            yield _space.fine(name, says)


def examine_clocks(settings: Settings, database: Database) -> Iterator[Finding]:
    """Check that this machine, the database, the library's disk and Prefect's server have the same time."""
    if database.is_postgresql:
        with database.connect() as connection:
            moment = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        yield _compare("database", "the database's server", moment.timestamp(), settings)
    else:
        yield _clocks.fine("database", "The database uses this machine's clock.")
    stamp = _time_of_disk(settings.library_root)
    if stamp is not None:
        yield _compare("library", "the library's disk", stamp, settings)
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if url:
        try:
            with opened_url(f"{url}/health", timeout_seconds=SERVER_SECONDS) as answer:
                date = answer.headers.get("Date")
            moment = parsedate_to_datetime(date).timestamp() if date else None
        except (OSError, ValueError):
            # Another finding reports that the server does not answer.
            return
        if moment is not None:
            # The header is rounded down to seconds, by half a second on average.
            yield _compare("prefect", "Prefect's server", moment + 0.5, settings)


def _compare(name: str, whose: str, moment: float, settings: Settings) -> Finding:
    difference = moment - datetime.now(UTC).timestamp()
    ahead = "ahead of" if difference > 0 else "behind"
    says = f"The clock of {whose} is {abs(difference):.1f} s {ahead} this machine's."
    if abs(difference) >= settings.stale_seconds / 2:
        return _clocks.problem(
            name,
            says,
            f"Set both clocks by NTP. A difference of {settings.stale_seconds:g} s makes running jobs count as dead.",
        )
    if abs(difference) >= TOLERATED_SECONDS:
        return _clocks.warning(name, says, "Set both clocks by NTP.")
    return _clocks.fine(name, f"The clock of {whose} agrees with this machine's.")


def _time_of_disk(root: Path) -> float | None:
    try:
        with tempfile.NamedTemporaryFile(prefix=".photojobs-doctor-", dir=root) as file:
            file.write(b"1")
            file.flush()
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        # Another finding reports that the library cannot be written.
        return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
