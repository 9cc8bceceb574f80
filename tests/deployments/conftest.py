"""Fixtures that run the command: in a separate process as a user does (`shell`), and in this process (`command`)."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deployments.cli.command_line import run_command_line
from deployments.cli.output import logs
from deployments.server.prefect_server import embedded_server
from storage.database.engine import Database

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: The path of the installed command.
PHOTOJOBS = Path(sys.executable).with_name("photojobs")


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr; each must come from the command itself, and not from a library."""
        lines = self.err.splitlines()
        assert all(line.startswith("photojobs: ") for line in lines), self.err
        return [line.removeprefix("photojobs: ") for line in lines]


@dataclass(frozen=True)
class Place:
    """A working folder with a library and the name of a database."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "library"

    @property
    def database_file(self) -> Path:
        return self.folder / "photojobs.db"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PHOTOJOBS_DATABASE_URL": f"sqlite:///{self.database_file}",
            "PHOTOJOBS_LIBRARY_ROOT": str(self.library),
            "PHOTOJOBS_RETRY_DELAY_SECONDS": "0",
            "PHOTOJOBS_SETTLE_SECONDS": "0",
            "PHOTOJOBS_HEARTBEAT_SECONDS": "0.5",
            "PHOTOJOBS_POLL_SECONDS": "0.05",
        }

    def files(self) -> set[str]:
        """The names of everything in the working folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "library").mkdir()
    return Place(tmp_path)


@pytest.fixture
def place_database(place: Place, sqlite_url: str) -> Iterator[Database]:
    """The migrated database of `place`."""
    assert sqlite_url == f"sqlite:///{place.database_file}"
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def _logs_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep commands from setting up logging, which belongs to the whole process, and so to all tests."""
    monkeypatch.setattr(logs, "set_up_logs", lambda **_: None)


@pytest.fixture
def command(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, in the folder of `place`: `command("jobs", "list", PREFECT_API_URL=url)`."""
    # Images are decoded in this process. Tests of imaging, and tests that start the command, use separate processes.
    for name, value in (place.environment | {"PHOTOJOBS_IMAGE_ISOLATION": "false"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place.folder)

    def run(*words: object, **environment: str) -> Ran:
        capsys.readouterr()
        with _environment(environment):
            code = run_command_line([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set these variables for the block, also in the settings that Prefect has read in this process already."""
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        for name, value in variables.items():
            patched.setenv(name, value)
        if url := variables.get("PREFECT_API_URL"):
            import prefect.main  # noqa: F401 - this sets up Prefect's logging, which a command keeps away from the terminal.
            from prefect.logging.handlers import PrefectConsoleHandler
            from prefect.settings import PREFECT_API_URL, temporary_settings

            for handler in logging.getLogger().handlers:
                if isinstance(handler, PrefectConsoleHandler):
                    patched.setattr(handler, "level", logging.CRITICAL)
            stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        yield


@pytest.fixture
def launch(place: Place) -> Callable[..., subprocess.Popen[str]]:
    """Start the installed command in the folder of `place`, and leave it running."""

    def start(*words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PHOTOJOBS, *(str(word) for word in words)],
            cwd=place.folder,
            env=os.environ | place.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def shell(launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., Ran]:
    """Run the installed command in the folder of `place`: `shell("run", "maintenance", PREFECT_API_URL=url)`."""

    def run(*words: object, **environment: str) -> Ran:
        process = launch(*words, **environment)
        out, err = process.communicate(timeout=240)
        return Ran(process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server of `prefect_url`."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_url(prefect_home: Path, quick_flow_runs: None) -> Iterator[str]:
    """The API of a running Prefect server; the settings of this process are not changed."""
    with embedded_server(prefect_home) as url:
        yield url


@pytest.fixture
def client(prefect_url: str) -> Iterator[SyncPrefectClient]:
    """A client of the server of `prefect_url`; the deployments of a test are deleted after the test."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as opened:
        yield opened
        for deployment in opened.read_deployments():
            opened.delete_deployment(deployment.id)


@pytest.fixture
def prefect_databases(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The SQLite files of the Prefect servers of this process, including the server of `prefect_url`."""
    return [path for path in tmp_path_factory.getbasetemp().glob("prefect[0-9]*/**/prefect.db") if path.is_file()]


@pytest.fixture
def make_images() -> Callable[[Path, int], None]:
    """A function that creates a folder with this number of small photographs."""

    def make(folder: Path, count: int) -> None:
        import pyvips

        folder.mkdir(parents=True)
        first = folder / "photo_0.jpg"
        image: Any = pyvips.Image.gaussnoise(180, 140, mean=128, sigma=40).cast("uchar")
        image.jpegsave(str(first))
        for number in range(1, count):
            (folder / f"photo_{number}.jpg").write_bytes(first.read_bytes())

    return make
