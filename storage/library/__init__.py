"""The library on disk: builds paths, and scans, moves and removes files in `<root>/<tenant_id>/<project_folder>/`.

This room uses no SQL and decodes no images. Callers pass names and times, and get checked paths and frozen records.

Each name below is loaded on first use, because an image process needs only a few of them. Import the function `scan`
from the module `storage.library.scan`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.library.atomic_write import remove_stale_temporaries, write_atomically
    from storage.library.content_hash import hash_contents, matching_hashes
    from storage.library.listing import list_names
    from storage.library.manifest import (
        Manifest,
        WrittenManifest,
        manifest_text,
        read_manifest,
        replace_manifest,
        write_manifest,
    )
    from storage.library.naming.companions import Fit, owner_keys
    from storage.library.naming.folder_names import FolderNames, unique_name
    from storage.library.naming.ignored_names import IgnoredNames
    from storage.library.naming.kinds import AcceptedExtensions, FileKind
    from storage.library.naming.names import name_key, sanitize_folder_name
    from storage.library.paths import Library, ProjectFolder, TenantFolder
    from storage.library.removal import remove_project_folder
    from storage.library.scan import ScannedDerivative, ScannedFile, look_at, scan_companion_folders, scan_derivatives
    from storage.library.transfer import (
        move_without_overwrite,
        remove_derivative,
        rename_folder_without_overwrite,
        sync_moves,
    )
    from storage.library.trash import (
        TrashEntry,
        expired,
        list_trash,
        move_to_trash,
        parse_trash_name,
        purge,
        restore,
        trash_place,
    )

__all__ = [
    "AcceptedExtensions",
    "FileKind",
    "Fit",
    "FolderNames",
    "IgnoredNames",
    "Library",
    "Manifest",
    "ProjectFolder",
    "ScannedDerivative",
    "ScannedFile",
    "TenantFolder",
    "TrashEntry",
    "WrittenManifest",
    "expired",
    "hash_contents",
    "list_names",
    "list_trash",
    "look_at",
    "manifest_text",
    "matching_hashes",
    "move_to_trash",
    "move_without_overwrite",
    "name_key",
    "owner_keys",
    "parse_trash_name",
    "purge",
    "read_manifest",
    "remove_derivative",
    "remove_project_folder",
    "remove_stale_temporaries",
    "rename_folder_without_overwrite",
    "replace_manifest",
    "restore",
    "sanitize_folder_name",
    "scan_companion_folders",
    "scan_derivatives",
    "sync_moves",
    "trash_place",
    "unique_name",
    "write_atomically",
    "write_manifest",
]

_HOMES = {
    "hash_contents": "content_hash",
    "AcceptedExtensions": "naming.kinds",
    "FileKind": "naming.kinds",
    "Fit": "naming.companions",
    "FolderNames": "naming.folder_names",
    "IgnoredNames": "naming.ignored_names",
    "Library": "paths",
    "Manifest": "manifest",
    "ProjectFolder": "paths",
    "ScannedDerivative": "scan",
    "ScannedFile": "scan",
    "TenantFolder": "paths",
    "TrashEntry": "trash",
    "WrittenManifest": "manifest",
    "expired": "trash",
    "list_names": "listing",
    "list_trash": "trash",
    "look_at": "scan",
    "manifest_text": "manifest",
    "matching_hashes": "content_hash",
    "move_to_trash": "trash",
    "move_without_overwrite": "transfer",
    "name_key": "naming.names",
    "owner_keys": "naming.companions",
    "parse_trash_name": "trash",
    "purge": "trash",
    "read_manifest": "manifest",
    "remove_derivative": "transfer",
    "remove_project_folder": "removal",
    "remove_stale_temporaries": "atomic_write",
    "rename_folder_without_overwrite": "transfer",
    "replace_manifest": "manifest",
    "restore": "trash",
    "sanitize_folder_name": "naming.names",
    "scan_companion_folders": "scan",
    "scan_derivatives": "scan",
    "sync_moves": "transfer",
    "trash_place": "trash",
    "unique_name": "naming.folder_names",
    "write_atomically": "atomic_write",
    "write_manifest": "manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
