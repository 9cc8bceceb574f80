"""The library on disk: every path, scan, move, removal and manifest in `<root>/<tenant_id>/<project_folder>/`.

No SQL and no images here. Callers bring names and moments; what is returned are checked paths and frozen records.
"""

from storage.library.atomic_write import remove_stale_temporaries, write_atomically
from storage.library.companions import Fit, owner_keys
from storage.library.content_hash import HASH_ALGORITHM, ContentHasher, hash_contents
from storage.library.folder_names import FolderNames, unique_name
from storage.library.ignored_names import DEFAULT_IGNORED_NAMES, IgnoredNames
from storage.library.kinds import AcceptedExtensions, FileKind, FileName
from storage.library.listing import ListedNames, list_names
from storage.library.manifest import (
    Manifest,
    WrittenManifest,
    manifest_text,
    read_manifest,
    replace_manifest,
    write_manifest,
)
from storage.library.names import name_key, sanitise_folder_name
from storage.library.paths import Library, ProjectFolder, TenantFolder
from storage.library.removal import remove_project_folder
from storage.library.scan import ScannedDerivative, ScannedFile, look_at, scan, scan_companion_folders, scan_derivatives
from storage.library.transfer import (
    move_without_overwrite,
    remove_derivative,
    rename_folder_without_overwrite,
    sync_moves,
)
from storage.library.trash import (
    TrashEntry,
    TrashName,
    expired,
    list_trash,
    move_to_trash,
    parse_trash_name,
    purge,
    restore,
    trash_place,
)

__all__ = [
    "DEFAULT_IGNORED_NAMES",
    "HASH_ALGORITHM",
    "AcceptedExtensions",
    "ContentHasher",
    "FileKind",
    "FileName",
    "Fit",
    "FolderNames",
    "IgnoredNames",
    "Library",
    "ListedNames",
    "Manifest",
    "ProjectFolder",
    "ScannedDerivative",
    "ScannedFile",
    "TenantFolder",
    "TrashEntry",
    "TrashName",
    "WrittenManifest",
    "expired",
    "hash_contents",
    "list_names",
    "list_trash",
    "look_at",
    "manifest_text",
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
    "sanitise_folder_name",
    "scan",
    "scan_companion_folders",
    "scan_derivatives",
    "sync_moves",
    "trash_place",
    "unique_name",
    "write_atomically",
    "write_manifest",
]
