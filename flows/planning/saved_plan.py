"""Writes and reads the file of a saved plan: one line of JSON for the task, one for each change, and a closing line.

`check_settings` decides which changed settings make a plan unusable. `flows.planning.refusals` finds the
differences between a saved plan and a fresh one.
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError

from flows.errors import FlowsError
from flows.planning.changes import LINE_BOUNDS, Change
from flows.process.runtime import Runtime
from storage.database.clock import format_timestamp, parse_timestamp
from storage.errors import StorageError
from storage.library.atomic_write import fsync_file, temporary_path
from storage.library.exclusive_rename import rename_exclusively
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.photos.photo_selection import PhotoSelection
from storage.queue.new_tasks import NewTask
from storage.settings import Settings
from task_definitions import Scope
from task_definitions.foreign_documents import UnreadableDocument, parse_json

FORMAT: Final = "photojobs plan"
VERSION: Final = 1

#: The settings that affect the changes of a run. A plan is outdated if one of them has changed.
_SETTINGS_THAT_MATTER: Final = (
    "trash_ttl_seconds",
    "missing_grace_seconds",
    "unaccepted_files",
    "jpg_extensions",
    "raw_extensions",
    "other_extensions",
    "rename_user_files",
    "merge_folders",
    "ignored_names",
    "companion_patterns",
    "max_image_megapixels",
    "settle_seconds",
)


class PlanFileError(FlowsError):
    """The file of a plan already exists, or cannot be written or read."""


class DamagedPlan(PlanFileError):
    """A file is not a saved plan, is incomplete, or was changed after it was saved."""


class PlanOutdated(FlowsError):
    """A saved plan cannot be run, because a setting that affects the run has changed since the plan was made."""


@contextlib.contextmanager
def writing_plan(
    path: Path, new: NewTask, runtime: Runtime, *, is_thorough: bool
) -> Iterator[Callable[[Change], None]]:
    """Write a plan to a temporary file, which gets its final name at the end of the block.

    The block gets a function that writes one change as a line of the file.

    Raises:
        PlanFileError: the file exists already or cannot be written.
    """
    temporary = temporary_path(path)
    digest = hashlib.blake2b(digest_size=16)
    count = 0

    def write(document: str) -> None:
        line = document.encode() + b"\n"
        digest.update(line)
        with _translating(path):
            file.write(line)

    def add(change: Change) -> None:
        nonlocal count
        count += 1
        write(change.to_json())

    with _translating(path):
        if os.path.lexists(path):
            raise FileExistsError
        file = temporary.open("xb")
    try:
        write(json.dumps(_header(new, runtime, is_thorough=is_thorough), ensure_ascii=False, sort_keys=True))
        yield add
        with _translating(path):
            file.write(json.dumps({"changes": count, "digest": digest.hexdigest()}).encode() + b"\n")
            file.close()
            fsync_file(temporary)
            rename_exclusively(temporary, path)
    finally:
        for tidy in (file.close, temporary.unlink):
            with contextlib.suppress(OSError):
                tidy()


@contextlib.contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise PlanFileError(f"{path}: the file exists, and a plan overwrites no file. Name another file.") from None
    except OSError as error:
        raise PlanFileError(
            f"{path}: the plan cannot be written: {error.strerror or error}. Correct this, or name a file in another "
            "folder."
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A saved plan that was read and found complete.

    Attributes:
        path: the file of the plan.
        task: the planned task, with the definition as it was when the plan was made.
        settings: the settings that affect the run, with their values when the plan was made.
        made_at: when the plan was made, by the database's clock.
    """

    path: Path
    task: NewTask
    is_thorough: bool
    settings: dict[str, Any]
    made_at: datetime

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan, and check that it is complete.

        Raises:
            PlanFileError: the file does not exist, or cannot be read.
            DamagedPlan: the file is not a plan of this version of photojobs, is incomplete, or was changed.
        """
        digest = hashlib.blake2b(digest_size=16)
        count = 0
        first = last = b""
        try:
            with path.open("rb") as file:
                while line := file.readline(LINE_BOUNDS.max_bytes + 1):
                    if count:
                        digest.update(last)
                    first, last = first or line, line
                    count += 1
        except OSError as error:
            raise PlanFileError(
                f"{path}: the plan cannot be read: {error.strerror or error}. Correct this, or name a file that "
                "`photojobs plan --save` wrote."
            ) from None
        header, closing = _object(first), _object(last)
        if header.get("format") != FORMAT:
            raise DamagedPlan(f"{path}: the file is not a saved plan. `photojobs plan NAME --save FILE` writes one.")
        version = header.get("version")
        if isinstance(version, int) and version != VERSION:
            age = "a newer" if version > VERSION else "an older"
            raise DamagedPlan(f"{path}: the plan was saved by {age} version of photojobs. Make a new plan.")
        if closing != {"changes": count - 2, "digest": digest.hexdigest()}:
            raise DamagedPlan(f"{path}: the plan is incomplete, or was changed after it was saved. Make a new plan.")
        try:
            if version != VERSION:
                raise ValueError(f"its version is {version}")
            return cls(
                path=path,
                task=_task(header),
                is_thorough=bool(header["is_thorough"]),
                settings=dict(header["settings"]),
                made_at=_moment(header["made_at"]),
            )
        except (KeyError, TypeError, ValueError, ValidationError, StorageError) as error:
            raise DamagedPlan(f"{path}: the first line of the plan is not valid ({error}). Make a new plan.") from None

    def changes(self) -> Iterator[Change]:
        """Yield the changes of the plan in order.

        Raises:
            DamagedPlan: a line is not a change.
        """
        with self.path.open("rb") as file:
            next(file)
            ahead = next(file)
            for number, line in enumerate(file, start=2):
                try:
                    yield Change.from_json(ahead.decode())
                except (AttributeError, TypeError, ValueError, UnreadableDocument):
                    raise DamagedPlan(
                        f"{self.path}: line {number} of the plan is damaged: it is not a valid change. Make a new plan."
                    ) from None
                ahead = line

    def check_settings(self, settings: Settings) -> None:
        """Check that the settings that affect the run have not changed since the plan was made.

        Raises:
            PlanOutdated: a setting has changed; the message names it.
        """
        now = _settings(settings)
        for name, value in self.settings.items():
            if name in now and now[name] != value:
                raise PlanOutdated(
                    f"{self.path}: {name} was {value} when the plan was made, and is {now[name]} now. Set this setting "
                    "back, or make a new plan. Nothing was started."
                )


def _header(new: NewTask, runtime: Runtime, *, is_thorough: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_at": format_timestamp(runtime.database.clock()),
        "definition": new.definition.to_json(),
        "tenant_id": new.tenant_id,
        "scope": str(new.scope),
        "project_id": new.project_id,
        "items": None if new.items is None else [dict(item) for item in new.items],
        "selection": None if new.selection is None else new.selection.model_dump(mode="json"),
        "payload": dict(new.payload or {}),
        "is_thorough": is_thorough,
        "settings": _settings(runtime.settings),
    }


def _task(header: dict[str, Any]) -> NewTask:
    selection = header["selection"]
    return NewTask(
        id=str(uuid.uuid4()),
        tenant_id=str(header["tenant_id"]),
        definition=PinnedDefinition.from_json(header["definition"]),
        scope=Scope(header["scope"]),
        project_id=header["project_id"],
        items=header["items"],
        selection=None if selection is None else PhotoSelection.model_validate(selection),
        payload=dict(header["payload"]),
        source="plan",
    )


def _moment(text: str) -> datetime:
    moment = parse_timestamp(text)
    if moment is None:
        raise ValueError(f"{text!r} is not a time")
    return moment


def _settings(settings: Settings) -> dict[str, Any]:
    values = settings.model_dump(mode="json", include=set(_SETTINGS_THAT_MATTER))
    return {name: sorted(value) if isinstance(value, list) else value for name, value in values.items()}


def _object(line: bytes) -> dict[str, Any]:
    try:
        document = parse_json(line, source="the plan", bounds=LINE_BOUNDS)
    except UnreadableDocument:
        return {}
    return document if isinstance(document, dict) else {}
