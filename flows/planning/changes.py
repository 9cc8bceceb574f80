"""Describes one planned change of a file, a folder or a database row, in words for readers and as JSON for programs.

`flows.planning.plan` decides which changes a plan lists.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from storage.library.naming.names import printable
from storage.library.paths import DERIVATIVE_EXTENSION, PREVIEW_FOLDER, THUMB_FOLDER, TRASH_FOLDER
from storage.library.trash import parse_trash_name
from storage.library.tree import TreeChange
from storage.shadow.row_changes import RowChange
from task_definitions.foreign_documents import Bounds, parse_json

#: The possible actions of a change, in the order in which a report lists them, with the words that it shows.
ACTIONS: Final[Mapping[str, str]] = {
    "trash": "files to trash",
    "move": "files to move",
    "rename": "files to rename",
    "restore": "files to restore",
    "remove": "files to remove",
    "make": "derivatives to make",
    "write": "files to write",
    "make_folder": "folders to make",
    "rename_folder": "folders to rename",
    "remove_folder": "folders to remove",
    "add_row": "rows to add",
    "change_row": "rows to change",
    "remove_row": "rows to remove",
}

#: Limits for one line of a saved plan. They are high because a line may have the ids of all photos, or a large value of
#: a row.
LINE_BOUNDS: Final = Bounds(max_bytes=256 * 1024 * 1024, max_depth=64)

_ROW_ACTIONS: Final = {"added": "add_row", "changed": "change_row", "removed": "remove_row"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The owner of a change: a project, or a folder without a project.

    Attributes:
        project_id: the project's id; None for a folder without a project, and for a project that the plan creates.
        name: the name of the project or of the folder.
    """

    project_id: int | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One planned change of a file, a folder or a row.

    Attributes:
        step: the index of the step. For follow-up work, it is the index after the last step.
        type: the step's type.
        action: one of `ACTIONS`.
        project_id: the `project_id` of the owner.
        project: the name of the owner.
        photo: the base name of the photo that the change affects, if any.
        path: the current path of the file or folder, relative to the library's root. A new file or folder has its
            future path here.
        target: the path after a move or a new name. If the plan moves the file to the trash, this path ends with the
            original file name.
        size_bytes: the current size of the file, if it exists.
        mtime_ns: the current modification time of the file, if it exists.
        table: the table of the row.
        row: the name of the row for readers.
        columns: for each changed column, its value before and after. A time that the run will write is None, because it
            is not known yet.
    """

    step: int
    type: str
    action: str
    project_id: int | None
    project: str
    photo: str | None = None
    path: str | None = None
    target: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    table: str | None = None
    row: str | None = None
    columns: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def freed_bytes(self) -> int:
        """The number of bytes that the change frees on the disk."""
        return (self.size_bytes or 0) if self.action == "remove" else 0

    def describe(self) -> str:
        """Return the change as one line of text."""
        if self.path is not None:
            target = "" if self.target is None or self.action == "trash" else f" → {self.target}"
            return f"{self.path}{target}"
        columns = ", ".join(
            f"{name} {_shown(old)} → {'now' if new is None and name.endswith('_at') else _shown(new)}"
            for name, (old, new) in self.columns.items()
        )
        return f"{self.table} {self.row}" + (f": {columns}" if columns and self.action == "change_row" else "")

    def to_json(self) -> str:
        """Return the change as one line of JSON. Equal changes have equal lines."""
        known = {name: value for name, value in asdict(self).items() if value is not None and value != {}}
        return json.dumps(known, ensure_ascii=False, sort_keys=True, default=str)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the change that `to_json` wrote as this line.

        Raises:
            UnreadableDocument, AttributeError, TypeError, ValueError: the line is not a change.
        """
        document = parse_json(line, source="the plan", bounds=LINE_BOUNDS)
        columns = {name: (old, new) for name, (old, new) in document.pop("columns", {}).items()}
        # `to_json` leaves out values that are None, so a missing project id is None.
        return cls(**{"project_id": None, **document}, columns=columns)


def file_change(
    change: TreeChange,
    *,
    step: int,
    type: str,
    owners: Mapping[str, Owner],
    began_at: datetime,
    ended_at: datetime,
    describe: Any,
) -> Change | None:
    """Return the planned change of a file or folder; None if a plan does not list it.

    A plan does not list the folder in which the trash keeps a file with a long name.

    Args:
        change: the difference between two scans of the shadow library.
        step: the index of the step that made the change.
        type: the type of the step.
        owners: the owners by project folder.
        began_at: when the plan began.
        ended_at: when the step ended. An entry of the trash was made by the plan itself if its time is from `began_at`
            to `ended_at`. An entry with a later time is older than the plan: the clock was set back.
        describe: the method `AcceptedExtensions.describe`, which finds the base name in a file name.
    """
    place = change.source or change.target
    assert place is not None  # noqa: S101 - a change has a source or a target.
    if change.is_folder and _is_wrapping(place):
        return None
    action = _action(change)
    folder = place.parts[1] if len(place.parts) > 1 else place.parts[0]
    owner = owners.get(folder) or Owner(project_id=None, name=printable(folder))

    def is_own(path: Path) -> bool:
        parsed = parse_trash_name(path.parts[3]) if _hidden_folder(path) == TRASH_FOLDER else None
        return parsed is not None and began_at <= parsed.trashed_at <= ended_at

    has_source = change.source is not None and not change.is_folder
    moves = change.action == "moved"
    return Change(
        step=step,
        type=type,
        action=action,
        project_id=owner.project_id,
        project=owner.name,
        photo=None if change.is_folder else _photo_of(place, describe),
        path=_text(place, is_own=is_own(place)),
        target=_text(change.target, is_own=is_own(change.target)) if moves and change.target is not None else None,
        size_bytes=change.size_bytes if has_source else None,
        mtime_ns=change.mtime_ns if has_source and not is_own(place) else None,
    )


def row_change(change: RowChange, *, step: int, type: str, owners: Mapping[int, Owner]) -> Change:
    """Return the planned change of a row."""
    owner = None if change.project_id is None else owners.get(change.project_id)
    is_of_photo = change.table in {"photos", "photo_tags", "photo_derivatives"}
    return Change(
        step=step,
        type=type,
        action=_ROW_ACTIONS[change.action],
        project_id=None if owner is None else owner.project_id,
        project="" if owner is None else owner.name,
        photo=change.name.rpartition(": ")[0] or change.name if is_of_photo else None,
        table=change.table,
        row=change.name,
        columns=change.columns,
    )


def _action(change: TreeChange) -> str:
    source, target = change.source, change.target
    if source is None or change.action == "replaced":
        if change.is_folder:
            return "make_folder"
        return "make" if target is not None and _hidden_folder(target) in {THUMB_FOLDER, PREVIEW_FOLDER} else "write"
    if target is None:
        return "remove_folder" if change.is_folder else "remove"
    was_trash, is_trash = (_hidden_folder(path) == TRASH_FOLDER for path in (source, target))
    if was_trash != is_trash:
        return "trash" if is_trash else "restore"
    if change.is_folder:
        return "rename_folder"
    return "rename" if source.parent == target.parent else "move"


def _hidden_folder(path: Path) -> str | None:
    """Return the hidden folder in which a path is, such as `.trash`; None for the folder of the project itself."""
    return path.parts[2] if len(path.parts) > 3 and path.parts[2].startswith(".") else None


def _is_wrapping(path: Path) -> bool:
    # The trash stores a file with a long name in a separate folder, whose name in the trash has no original name.
    parsed = parse_trash_name(path.name)
    return _hidden_folder(path) == TRASH_FOLDER and parsed is not None and not parsed.original_name


def _photo_of(path: Path, describe: Any) -> str | None:
    hidden, name = _hidden_folder(path), path.name
    if hidden in {THUMB_FOLDER, PREVIEW_FOLDER}:
        return printable(name.removesuffix(DERIVATIVE_EXTENSION))
    if hidden == TRASH_FOLDER:
        parsed = parse_trash_name(name)
        name = parsed.original_name if parsed is not None else name
    if len(path.parts) < 3 or name.startswith("."):
        return None
    return printable(describe(name).base_name)


def _text(path: Path, *, is_own: bool) -> str:
    # The text has the file's original name, because each run gives the file another name in the trash.
    if is_own:
        parts = [part for part in path.parts[3:] if parse_trash_name(part) is None]
        names = parts or [(parsed.original_name if (parsed := parse_trash_name(path.name)) else path.name)]
        path = Path(*path.parts[:3], *names)
    return printable(path.as_posix())


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
