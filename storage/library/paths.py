"""Builds paths in the library from a tenant, a project folder and a name, and checks that they stay in the project.

Other modules of `storage.library` move, remove and list files.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storage.library.errors import FolderMissing, FolderUnreadable, LibraryUnavailable, UnsafePath
from storage.library.listing import listing
from storage.library.naming.companions import MAX_FOLDERS
from storage.library.naming.ignored_names import IgnoredNames
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, MANIFEST_NAME, AcceptedExtensions
from storage.library.naming.names import MAX_NAME_BYTES, check_name, cut_to_bytes, printable, unsafe_reason

THUMB_FOLDER: Final = ".thumb"
PREVIEW_FOLDER: Final = ".preview"
TRASH_FOLDER: Final = ".trash"
DERIVATIVE_EXTENSION: Final = ".webp"


def expanded_path(path: str | Path) -> Path:
    """Return the path with the home folder in place of `~` or `~user`; a `~` without a known home folder stays."""
    # `Path.expanduser` raises a RuntimeError for an unknown user. `os.path.expanduser` returns the path unchanged.
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above.


def absolute_path(path: str | Path) -> Path:
    """Return the absolute path, with the home folder in place of `~`, and without `..`; symlinks stay."""
    return Path(os.path.abspath(expanded_path(path)))  # noqa: PTH100 - absolute() would keep "..".


@dataclass(frozen=True, slots=True)
class Library:
    """The photo folders on disk: `<root>/<tenant_id>/<project_folder>/`.

    The path of the root may contain symlinks; nothing below the root may be a symlink. Creating a `Library` object does
    not access the disk.

    Attributes:
        root: the root folder, which is made absolute; `~` is the home folder.
        ignored_names: files and folders of operating systems and storage systems, which are not part of the library.
        origin: for the shadow library of a plan, the function that returns the path of the original for a path in the
            shadow library; else None.
    """

    root: Path
    accepted_extensions: AcceptedExtensions = field(default=DEFAULT_EXTENSIONS, kw_only=True)
    ignored_names: IgnoredNames = field(default_factory=IgnoredNames, kw_only=True, repr=False, compare=False)
    origin: Callable[[Path], Path] | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", absolute_path(self.root))

    def tenant(self, tenant_id: str) -> "TenantFolder":
        """Return the folder of a tenant, whether or not it exists.

        Raises:
            UnsafePath: the id is not safe as a name, or the path is a symlink or a file.
        """
        path = self.root / check_name(tenant_id, what="Tenant id")
        _refuse_anything_but_a_folder(path)
        return TenantFolder(self, tenant_id, path)

    def project(self, tenant_id: str, project_folder: str) -> "ProjectFolder":
        """Return the folder of a project, whether or not it exists.

        Raises:
            UnsafePath: a name is not safe, or a folder on the path is a symlink or a file.
        """
        return self.tenant(tenant_id).project(project_folder)

    def make_folder(self, path: Path) -> None:
        """Make a folder inside a project's folder if it is missing, but never the project's folder itself.

        Raises:
            FolderMissing: the project's folder does not exist. Its disk may not be mounted, or a user may have renamed
                it. If it were made again, the project's files would be in two folders.
        """
        tenant_id, project_folder, *inside = path.relative_to(self.root).parts
        folder = self.root / tenant_id / project_folder
        if not folder.is_dir():
            raise FolderMissing(
                f"Folder {folder} no longer exists. Mount its disk; or if you renamed the folder, rename it back."
            )
        for name in inside:
            folder /= name
            folder.mkdir(exist_ok=True)

    def content_path(self, path: Path) -> Path:
        """Return the path from which to read the contents and the change time of a file; never write to this path.

        The result is the given path, except in the shadow library of a plan: its files are empty, and each stands for
        an original in the real library.
        """
        return path if self.origin is None else self.origin(path)

    def change_time_ns(self, folder: Path, name: str, status: os.stat_result) -> int:
        """Return the change time (ctime) of a file in nanoseconds since 1970; `status` is the file's status.

        A scan calls this method for each file, so the method builds a path only in a plan, which needs one.
        """
        if self.origin is None:
            return status.st_ctime_ns
        with suppress(FileNotFoundError):
            return self.origin(folder / name).lstat().st_ctime_ns
        return status.st_ctime_ns

    def tenant_ids(self) -> Iterator[str]:
        """Return the names of the folders in the root that can be tenants, in no particular order.

        Raises:
            LibraryUnavailable: the root is missing, not a folder or unreadable.
        """
        try:
            yield from _safe_folder_names(self.root, self.ignored_names)
        except (FolderMissing, FolderUnreadable) as error:
            raise LibraryUnavailable(f"The library root cannot be read: {error}") from error

    def check_available(self) -> None:
        """Check that the library is mounted. Call this before you treat a missing file as deleted.

        Raises:
            LibraryUnavailable: the root is missing, not a folder, unreadable, or has no tenant's folder.
        """
        if self.is_missing_or_empty(self.root):
            raise LibraryUnavailable(
                f"Library root {self.root} is missing or empty. Mount its disk, correct PHOTOJOBS_LIBRARY_ROOT, or "
                "create a tenant's folder there."
            )

    def is_missing_or_empty(self, folder: Path) -> bool:
        """Return whether a folder is missing or has no visible folder, like the mount point of an unmounted disk.

        Call this for the library root or a tenant's folder before you treat missing files as deleted. Files, hidden
        entries and ignored names do not count: a mount point may contain a marker file, and a newly formatted disk has
        `lost+found`.

        Raises:
            LibraryUnavailable: `folder` is not a folder, or cannot be read.
        """
        try:
            with os.scandir(folder) as entries:
                return not any(
                    entry.is_dir() and not entry.name.startswith(".") and entry.name not in self.ignored_names
                    for entry in entries
                )
        except FileNotFoundError:
            return True
        except OSError as error:
            raise LibraryUnavailable(
                f"{folder} cannot be read ({error.strerror}). Mount its disk, or correct its path and permissions."
            ) from error


@dataclass(frozen=True, slots=True)
class TenantFolder:
    """The folder of a tenant, which need not exist on disk. `Library.tenant` returns this object."""

    library: Library
    tenant_id: str
    path: Path

    def project(self, project_folder: str) -> "ProjectFolder":
        """Return the folder of a project of this tenant, whether or not it exists.

        Raises:
            UnsafePath: the name is not safe, or the path is a symlink or a file.
        """
        path = self.path / check_name(project_folder, what="Project folder")
        _refuse_anything_but_a_folder(path)
        return ProjectFolder(self, project_folder, path)

    def project_folders(self) -> Iterator[str]:
        """Return the names of this tenant's folders that can be projects, in no particular order.

        Symlinks and hidden folders are left out.

        Raises:
            FolderMissing: the tenant has no folder.
            FolderUnreadable: the folder could not be listed completely.
        """
        return _safe_folder_names(self.path, self.library.ignored_names)

    def check_available(self, *, projects: int) -> None:
        """Check that the tenant's disk is mounted, before the missing folder of a project counts as removed.

        `projects` is the number of the tenant's active projects. A user may have removed the folder of the only
        project; if several folders disappear at once, the disk is probably not mounted.

        Raises:
            LibraryUnavailable: the tenant has several projects, and its folder is missing, cannot be read, or has no
                visible folder.
        """
        if projects > 1 and self.library.is_missing_or_empty(self.path):
            raise LibraryUnavailable(
                f"Folder {self.path} is missing or empty, although its tenant has {projects} projects. Mount its disk. "
                "If the folders were removed on purpose, delete each project with `photojobs run project_delete`."
            )


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """The folder of a project with its hidden folders. `Library.project` and `TenantFolder.project` create it."""

    tenant: TenantFolder
    project_folder: str
    path: Path

    @property
    def library(self) -> Library:
        """The library that the project belongs to."""
        return self.tenant.library

    @property
    def thumb(self) -> Path:
        """The folder of thumbnails. Raises `UnsafePath` if it is a symlink or a file."""
        return self._hidden_folder(THUMB_FOLDER)

    @property
    def preview(self) -> Path:
        """The folder of previews. Raises `UnsafePath` if it is a symlink or a file."""
        return self._hidden_folder(PREVIEW_FOLDER)

    @property
    def trash(self) -> Path:
        """The folder of trashed files. Raises `UnsafePath` if it is a symlink or a file."""
        return self._hidden_folder(TRASH_FOLDER)

    @property
    def manifest_path(self) -> Path:
        """The path of the manifest, `.project.yaml`. Raises `UnsafePath` if it is a symlink."""
        path = self.path / MANIFEST_NAME
        _refuse_symlink(path)
        return path

    def exists(self) -> bool:
        """Return whether the project's folder exists. Raises `UnsafePath` if it is a symlink or a file."""
        return _refuse_anything_but_a_folder(self.path)

    def is_empty(self) -> bool:
        """Return whether the folder has no entry, not even a hidden one, like the mount point of an unmounted disk."""
        with os.scandir(self.path) as entries:
            return next(entries, None) is None

    def original(self, filename: str) -> Path:
        """Return the path of an original or sidecar, whether or not it exists.

        Raises:
            UnsafePath: the name is not safe, or the file is a symlink.
        """
        return self._file(self.path, filename)

    def companion(self, path: str) -> Path:
        """Return the path of a file in the project's folder, or in a folder of companions below it.

        Raises:
            UnsafePath: a name in `path` is not safe, the path has more than `MAX_FOLDERS` folders, a folder on the path
                is a symlink or a file, or the file is a symlink.
        """
        *folders, name = path.split("/")
        if len(folders) > MAX_FOLDERS:
            raise UnsafePath(
                f"“{printable(path)}” is not a companion of a photo: its path has more than {MAX_FOLDERS} folders. "
                "Move it to a folder nearer to its photo."
            )
        folder = self.path
        for part in folders:
            folder = folder / check_name(part, what=f"Project folder “{self.project_folder}”: the name")
            _refuse_anything_but_a_folder(folder)
        return self._file(folder, name)

    def inside(self, path: str) -> Path:
        """Return the path of a file in the project's folder, in a folder of companions, or in a hidden folder.

        Raises:
            UnsafePath: see `companion`; or photojobs stores no file at such a path in a hidden folder. A file in a
                hidden folder may be a symlink, but no folder may be one.
        """
        first, _, rest = path.partition("/")
        if path == MANIFEST_NAME:
            return self.manifest_path
        if first not in {THUMB_FOLDER, PREVIEW_FOLDER, TRASH_FOLDER}:
            return self.companion(path)
        parts = rest.split("/")
        if len(parts) > (2 if first == TRASH_FOLDER else 1) or not {"", ".", ".."}.isdisjoint(parts):
            raise UnsafePath(
                f"“{printable(path)}” in project folder “{self.project_folder}”: photojobs stores no file at such a "
                f"path in {first}. Move the file out of {first}, directly into the project's folder."
            )
        folder = self._hidden_folder(first)
        for part in parts[:-1]:
            folder /= part
            _refuse_anything_but_a_folder(folder)
        return folder / parts[-1]

    def thumbnail(self, name: str) -> Path:
        """Return the path of a photo's thumbnail; `name` is the base name. Raises `UnsafePath` as `original` does."""
        return self._derivative(self.thumb, name)

    def preview_image(self, name: str) -> Path:
        """Return the path of a photo's preview; `name` is the base name. Raises `UnsafePath` as `original` does."""
        return self._derivative(self.preview, name)

    def create(self) -> None:
        """Create the project's folder and its hidden folders if they are missing, but never the library's root.

        Raises:
            LibraryUnavailable: the root is missing. A new root would be on the wrong disk if its own disk is not
                mounted.
            UnsafePath: one of the folders is a symlink or a file.
        """
        if not self.library.root.is_dir():
            raise LibraryUnavailable(
                f"Library root {self.library.root} is missing. Mount its disk, or create the folder."
            )
        self.tenant.path.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self.create_hidden_folders()

    def create_hidden_folders(self) -> None:
        """Create the hidden folders if they are missing. Raises `UnsafePath`, or the error of `make_folder`."""
        for folder in (self.thumb, self.preview, self.trash):
            self.library.make_folder(folder)

    def _file(self, folder: Path, name: str) -> Path:
        path = folder / check_name(name, what=f"Project folder “{self.project_folder}”: the name")
        _refuse_symlink(path)
        return path

    def _hidden_folder(self, name: str) -> Path:
        path = self.path / name
        _refuse_anything_but_a_folder(path)
        return path

    def _derivative(self, folder: Path, name: str) -> Path:
        what = f"Project folder “{self.project_folder}”: the name of the derivative"
        check_name(name, what=what)
        path = folder / check_name(derivative_stem(name) + DERIVATIVE_EXTENSION, what=what)
        _refuse_symlink(path)
        return path


def max_name_bytes(folder: Path) -> int:
    """Return the number of bytes that a name in a folder may have, at most `MAX_NAME_BYTES`.

    File systems that encrypt names, such as eCryptfs, store only shorter names.
    """
    with suppress(OSError, ValueError):
        limit = os.pathconf(folder, "PC_NAME_MAX")
        # Some file systems report no limit, or 0.
        if 0 < limit < MAX_NAME_BYTES:
            return limit
    return MAX_NAME_BYTES


def derivative_stem(name: str) -> str:
    """Return the name of the derivatives of a photo, without their extension.

    The result is the photo's base name. If the base name is too long for an extension, it is cut, and a hash of the
    whole name is added.
    """
    room_bytes = MAX_NAME_BYTES - len(DERIVATIVE_EXTENSION)
    if len(name.encode()) <= room_bytes:
        return name
    ending = "~" + hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return cut_to_bytes(name, room_bytes - len(ending)) + ending


def _safe_folder_names(folder: Path, ignored: IgnoredNames) -> Iterator[str]:
    with listing(folder) as entries:
        for entry in entries:
            if unsafe_reason(entry.name) is None and entry.name not in ignored and entry.is_dir(follow_symlinks=False):
                yield entry.name


def _refuse_symlink(path: Path) -> int | None:
    """Return the mode of the file or folder at the path; None if nothing exists. Raise `UnsafePath` for a symlink."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        raise UnsafePath(
            f"{printable(str(path))} is a symbolic link, which may lead out of the project. "
            "Replace it with the file or folder that it points to."
        )
    return mode


def _refuse_anything_but_a_folder(path: Path) -> bool:
    """Return whether a folder exists at the path. Raise `UnsafePath` for a symlink or a file."""
    mode = _refuse_symlink(path)
    if mode is None:
        return False
    if not stat.S_ISDIR(mode):
        raise UnsafePath(f"{printable(str(path))} is not a folder. Move it out of the library.")
    return True
