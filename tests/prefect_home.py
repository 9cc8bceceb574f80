"""The home of a Prefect server whose database is there already: to create one takes five seconds of processor time."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from tests.conftest import SESSION_FOLDER


def prepared_home(folder: Path) -> Path:
    """Fill a home that is new with what the first start of a server leaves there; returns the folder."""
    if not (folder / "prefect.db").exists():
        shutil.copytree(_first_home(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.log"))
    return folder


def _first_home() -> Path:
    """The home of a server that has run once; made once for all processes of this test session."""
    from deployments.prefect_server import embedded_server

    home, ready = SESSION_FOLDER / "prefect-first", SESSION_FOLDER / "prefect-first-ready"
    with (SESSION_FOLDER / "prefect-first.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            with embedded_server(home):
                pass
            ready.touch()
    return home
