"""Starts the programs of photojobs as an operator does, with a separate library and database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pressure.steps import DEFINITION, MODULE
from tests.scale.photo_set import make_installed

_PHOTOJOBS = Path(sys.executable).with_name("photojobs")


class Programs:
    """Starts `photojobs worker` and `photojobs up`; kills the processes that still run at the end of the block.

    Args:
        folder: an empty folder for the library, the definition and the logs.
        url: the URL of the database.
        settings: settings by their names, such as `concurrency`.
    """

    def __init__(self, folder: Path, url: str, **settings: object) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.library.mkdir()
        (folder / "definitions.yaml").write_text(DEFINITION)
        make_installed(
            folder / "site", name="photojobs-pressure", module=MODULE, steps=["pressure_wait", "pressure_items"]
        )
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PHOTOJOBS_", "PREFECT_"))
        }
        self._environment |= {f"PHOTOJOBS_{name.upper()}": str(value) for name, value in settings.items()} | {
            "PHOTOJOBS_DATABASE_URL": url,
            "PHOTOJOBS_LIBRARY_ROOT": str(self.library),
            "PHOTOJOBS_DEFINITIONS": str(folder / "definitions.yaml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[2])]),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `photojobs` with these arguments; write its output to a log with the name of the first argument."""
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [_PHOTOJOBS, *arguments],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    def log(self, command: str) -> str:
        """Return the output of all processes of a command."""
        path = self.folder / f"{command}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def address_of_up(self) -> str | None:
        """Return the address of the Prefect server of `photojobs up`; None until `up` is ready."""
        found = re.search(r"^up: (http://\S+)", self.log("up"), re.MULTILINE)
        return None if found is None else found.group(1)

    @contextmanager
    def in_this_process(self) -> Iterator[None]:
        """During the block, use the same settings and step types in this process."""
        before, path = dict(os.environ), list(sys.path)
        os.environ.clear()
        os.environ.update(self._environment)
        sys.path.insert(0, str(self.folder / "site"))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            sys.path[:] = path

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
