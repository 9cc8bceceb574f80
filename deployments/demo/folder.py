"""The folder of the demo, with its library, database and Prefect data; a marker file identifies it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deployments.errors import DeploymentsError
from storage.library.paths import expanded_path
from task_definitions.foreign_documents import UnreadableDocument, parse_json, read_foreign_file
from task_definitions.wording import shown

#: The marker file by which the demo recognizes a folder that it created.
MARKER = "photojobs-demo.json"

_MADE_BY = "photojobs demo"


class DemoState(StrEnum):
    """How far the demo in a folder has come."""

    MAKING = "making"
    MADE = "made"
    REPAIRED = "mended"  # The marker files of existing demo folders contain this older word.


class DemoFolderRefused(DeploymentsError):
    """The demo did not create the given folder, or cannot create it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFolder:
    """The paths in a folder that `photojobs demo` created."""

    path: Path

    @property
    def library_root(self) -> Path:
        """The root of the library."""
        return self.path / "library"

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.path / "photojobs.db"

    @property
    def prefect_home(self) -> Path:
        """Where Prefect's server keeps its data."""
        return self.path / "prefect"

    @property
    def state(self) -> DemoState:
        """How far the demo in this folder has come.

        Raises:
            DemoFolderRefused: the marker file is unreadable, or a newer version wrote it.
        """
        state = _read_marker(self.path).get("state")
        try:
            return DemoState(str(state))
        except ValueError:
            raise DemoFolderRefused(
                f"{self.path / MARKER}: this version of photojobs does not know the state {shown(state)} of a demo. "
                "Name another folder with --folder."
            ) from None

    def enter(self, state: DemoState) -> None:
        """Store the state of the demo."""
        _write_marker(self.path, state)


def claim_folder(path: Path) -> DemoFolder:
    """Create the folder of the demo, or open an existing one.

    If an earlier start was interrupted, its incomplete library and database are removed.

    Raises:
        DemoFolderRefused: the folder exists and the demo did not create it, or its state is unknown, or it cannot be
            created.
    """
    path = expanded_path(path).absolute()
    try:
        path.mkdir()
        _write_marker(path, DemoState.MAKING)
    except FileExistsError:
        if path.is_symlink() or _read_marker(path).get("made_by") != _MADE_BY:
            raise DemoFolderRefused(
                f"{path} already exists, but the demo did not create it. Name another folder with --folder."
            ) from None
    except OSError as error:
        raise DemoFolderRefused(
            f"{path} cannot be created: {error.strerror}. Correct this, or name another folder with --folder."
        ) from None
    folder = DemoFolder(path=path)
    if folder.state is DemoState.MAKING:
        _remove_what_was_begun(folder)
    return folder


def _remove_what_was_begun(folder: DemoFolder) -> None:
    if folder.library_root.is_dir() and not folder.library_root.is_symlink():
        shutil.rmtree(folder.library_root)
    for suffix in ("", "-wal", "-shm"):
        folder.database_path.with_name(folder.database_path.name + suffix).unlink(missing_ok=True)


def _read_marker(path: Path) -> dict[str, object]:
    try:
        file = path / MARKER
        marker = parse_json(read_foreign_file(file), source=str(file))
    except UnreadableDocument:
        return {}
    return marker if isinstance(marker, dict) else {}


def _write_marker(path: Path, state: DemoState) -> None:
    text = json.dumps({"made_by": _MADE_BY, "state": str(state)}, indent=2)
    (path / MARKER).write_text(text + "\n", encoding="utf-8")
