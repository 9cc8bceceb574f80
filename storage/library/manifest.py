"""Reads and writes the manifest `.project.yaml`, which identifies the project of a folder even after a rename.

`flows.steps.projects.manifest_check` decides when a manifest is repaired, and `flows.steps.targets.folder_owner` whose
folder it is if the manifest has the id of another project.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeGuard

import yaml

from storage.library.atomic_write import fsync_folder, write_atomically
from storage.library.errors import FolderMissing, ManifestUnreadable
from storage.library.naming.folder_names import FolderNames
from storage.library.paths import ProjectFolder
from storage.library.transfer import move_without_overwrite, sync_moves
from storage.library.trash import trash_place
from task_definitions.foreign_documents import Bounds, UnreadableDocument, parse_yaml
from task_definitions.wording import shown

#: The format version of the manifests that we write.
MANIFEST_VERSION: Final = "1.0"
#: A manifest has a few lines; a file with more bytes than this is not a manifest.
_MAX_MANIFEST_BYTES: Final = 1 << 16
#: Contents up to this size are kept in memory after they were parsed.
_MAX_KEPT_BYTES: Final = 1_000
#: YAML aliases are refused, because with them a few lines could expand to more values than fit in memory.
_BOUNDS: Final = Bounds(max_bytes=_MAX_MANIFEST_BYTES, max_values=2_000, has_aliases=False)
_KEYS: Final = ("name", "id", "created_at", "version")


class _Dumper(yaml.SafeDumper):
    """Writes texts in quotes if they are numbers by YAML 1.2, such as `08` and `1e3`.

    PyYAML follows YAML 1.1, so it would write these texts without quotes.
    """


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+)$"), [*"+-.0123456789"]
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a project's manifest.

    Attributes:
        name: the project's name, as a user typed it.
        id: the project's id.
        created_at: when the project was created, as ISO 8601 text.
        version: the format version of the manifest.
        other: further keys, which other programs or users store in the manifest.
    """

    name: str
    id: int
    created_at: str
    version: str = MANIFEST_VERSION
    other: Mapping[str, Any] = field(default_factory=dict)


def read_manifest(project: ProjectFolder) -> Manifest | None:
    """Read a project's manifest; return None if there is none.

    Raises:
        ManifestUnreadable: the file cannot be read, is not a regular file, is too large, or is not a YAML mapping with
            a name, an id and a creation time.
        UnsafePath: the file is a symlink.
    """
    path = project.manifest_path
    text = _read(path)
    if text is None:
        return None
    return _parse_again(text, path) if len(text) <= _MAX_KEPT_BYTES else _parse(text, path)


@dataclass(frozen=True, slots=True)
class WrittenManifest:
    """The result of writing a manifest.

    Attributes:
        before: the text of the old manifest; None if there was none or it was unreadable.
        trashed: the path of an unreadable old manifest in the trash, else None.
    """

    before: str | None
    after: str
    trashed: Path | None


def manifest_text(project: ProjectFolder) -> str | None:
    """Return the text of a project's manifest; None if there is none or it is unreadable.

    Raises:
        UnsafePath: the manifest is a symlink.
    """
    try:
        text = _read(project.manifest_path)
        return None if text is None else text.decode()
    except (ManifestUnreadable, UnicodeDecodeError):
        return None


def write_manifest(
    project: ProjectFolder,
    manifest: Manifest,
    *,
    at: datetime,
    announce: Callable[[WrittenManifest], None] | None = None,
) -> WrittenManifest | None:
    """Write a project's manifest in one atomic step; return what changed, or None if the old one has these contents.

    Keys of the old file that are not in `manifest` are kept. An unreadable manifest is first moved to the trash, so
    that a user can still look at it. The name of the file in the trash has the current time `at`. If the manifest must
    be written, `announce` is called with the result before any file changes.

    Raises:
        FolderMissing: the project has no folder.
        UnsafePath: the manifest is a symlink or not a regular file.
    """
    path = project.manifest_path
    if not project.exists():
        raise FolderMissing(
            f"Project folder {project.path} does not exist, so it gets no manifest. Mount its disk, or create the "
            "folder."
        )
    other: dict[str, Any] = {}
    before: str | None = None
    trashed: Path | None = None
    try:
        text = _read(path)
        if text is not None:
            mapping = _load_mapping(text, path)
            other = {key: value for key, value in mapping.items() if key not in _KEYS}
            if _has_contents(mapping, path, manifest):
                return None
            before = text.decode()
    except (ManifestUnreadable, UnicodeDecodeError):
        trashed = trash_place(project, path, at=at)
    known = {key: getattr(manifest, key) for key in _KEYS}
    values = {**known, **other, **manifest.other}
    content = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    written = WrittenManifest(before=before, after=content, trashed=trashed)
    if announce is not None:
        announce(written)
    if trashed is not None:
        project.library.make_folder(trashed.parent)
        move_without_overwrite(path, trashed, names=FolderNames())
        sync_moves([(path, trashed)])
    write_atomically(path, content.encode())
    fsync_folder(project.path)
    return written


def _has_contents(mapping: dict[str, Any], path: Path, wanted: Manifest) -> bool:
    try:
        found = _manifest_of(mapping, path)
    except ManifestUnreadable:
        return False
    # Other keys of the file are compared only if `wanted` has them, too, because further keys are kept unchanged.
    return replace(found, other={}) == replace(wanted, other={}) and all(
        key in found.other and found.other[key] == value for key, value in wanted.other.items()
    )


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestUnreadable(f"{path} cannot be read: {error.strerror}. Check the disk and permissions.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ManifestUnreadable(f"{path} is not a regular file. Move it to another folder.")
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(text) > _MAX_MANIFEST_BYTES:
        raise ManifestUnreadable(
            f"{path} is larger than {_MAX_MANIFEST_BYTES:,} bytes, so it is not a manifest. Move it to another folder."
        )
    return text


def _parse(text: bytes, path: Path) -> Manifest:
    return _manifest_of(_load_mapping(text, path), path)


#: Keeps parsed manifests, because each step reads the manifests of all its projects, and parsing takes much longer than
#: reading.
_parse_again = lru_cache(maxsize=4_096)(_parse)


def _load_mapping(text: bytes, path: Path) -> dict[str, Any]:
    try:
        loaded = parse_yaml(text, source=str(path), bounds=_BOUNDS)
    except UnreadableDocument as error:
        raise ManifestUnreadable(f"{error} Correct or remove the file.") from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ManifestUnreadable(f"{path} is not a mapping of names to values. Correct or remove the file.")
    return loaded


def _manifest_of(mapping: dict[str, Any], path: Path) -> Manifest:
    name, identity, version = mapping.get("name"), mapping.get("id"), mapping.get("version", MANIFEST_VERSION)
    created_at = _moment_text(mapping.get("created_at"))
    problems = {
        "name": isinstance(name, str) and bool(name),
        "id": _is_id(identity),
        "created_at": created_at is not None,
        "version": isinstance(version, str | int | float) and not isinstance(version, bool),
    }
    wrong = [key for key, is_right in problems.items() if not is_right]
    if wrong or not isinstance(name, str) or not _is_id(identity) or created_at is None:
        values = ", ".join(f"{key}: {shown(mapping.get(key))}" for key in wrong)
        raise ManifestUnreadable(
            f"{path}: missing or not valid: {', '.join(wrong)} ({values}). Correct or remove the file."
        )
    other = {key: value for key, value in mapping.items() if key not in _KEYS}
    return Manifest(name=name, id=identity, created_at=created_at, version=str(version), other=other)


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _moment_text(value: object) -> str | None:
    # YAML parses an unquoted time as a date or datetime.
    if isinstance(value, datetime):
        try:
            aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:  # Converted to UTC, a time in the year 1 or 9999 may be out of range.
            return None
        return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) and value else None
