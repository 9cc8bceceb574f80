"""Removes project folders and entries of the trash with their contents.

Other modules of `storage` and `flows` only move originals. `flows.steps.projects.project_deletion` decides which
folders are removed, and `flows.steps.moving.trash_maintenance` which entries of the trash.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from storage.library.atomic_write import fsync_folder
from storage.library.errors import CrossesFileSystems, UnsafePath
from storage.library.exclusive_rename import rename_noreplace
from storage.library.mounts import Mount, mount_of, mount_of_descriptor
from storage.library.naming.names import printable
from storage.library.paths import ProjectFolder

_REMOVING_PREFIX: Final = ".photojobs-removing-"
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_project_folder(project: ProjectFolder) -> bool:
    """Remove a project's folder with everything in it, including its trash. This cannot be undone.

    The folder first gets a hidden name in its tenant's folder, so that it disappears at once; then its contents are
    removed. A folder in a lower layer of an overlay, such as the image of a container, cannot get another name, so it
    is removed under its present name. After a crash, the next call continues. That call also removes a folder that was
    created at the same path in the meantime; `finish_removal` does not. Symlinks are not followed, and file systems
    that are mounted in the folder are not entered.

    Returns:
        Whether there was a folder to remove.

    Raises:
        UnsafePath: the path is not directly in its tenant's folder, or it is a symlink or a file.
        CrossesFileSystems: a file system is mounted at the folder or in it; the files of that file system stay.
        OSError: the disk fails, or permissions are missing; the next call removes the rest.
    """
    tenant = project.tenant
    if project.path.parent != tenant.path or tenant.path.parent != project.library.root:
        raise UnsafePath(
            f"{printable(str(project.path))} is not directly in its tenant's folder, so it is not removed. "
            "Use a folder that `Library.project` returned."
        )
    if not project.library.tenant(tenant.tenant_id).path.is_dir():
        return False
    hidden = tenant.path / f"{_removing_mark(project)}{secrets.token_hex(8)}"
    if project.exists() and not _set_aside(project.path, hidden):
        remove_tree(project.path)
        finish_removal(project)
        return True
    return finish_removal(project)


def finish_removal(project: ProjectFolder) -> bool:
    """Remove what an interrupted `remove_project_folder` left under hidden names; not a folder that was created since.

    Returns:
        Whether there was a folder to remove.

    Raises:
        CrossesFileSystems, OSError: see `remove_project_folder`.
    """
    path, mark = project.tenant.path, _removing_mark(project)
    with os.scandir(path) as entries:
        leftovers = sorted(entry.name for entry in entries if entry.name.startswith(mark))
    for name in leftovers:
        remove_tree(path / name)
    return bool(leftovers)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with everything in it. Symlinks are not followed; a missing path is not an error.

    The caller must check that the path may be removed.

    Raises:
        CrossesFileSystems: a file system is mounted at the path or below it; the files of that file system stay.
        UnsafePath: a folder was replaced during the removal.
        OSError: the disk fails, or permissions are missing.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_entry(parent, path.name, mount=mount_of_descriptor(parent), shown=path)
    finally:
        os.close(parent)


def _set_aside(folder: Path, hidden: Path) -> bool:
    """Rename a folder. Return False if it is in a lower layer of an overlay: such a folder cannot be renamed."""
    if mount_of(folder, follow_symlinks=False) != mount_of(folder.parent):
        raise CrossesFileSystems(f"{printable(str(folder))} is a mount point. Unmount it, then remove the project.")
    try:
        if not rename_noreplace(folder, hidden):
            folder.rename(hidden)
        fsync_folder(folder.parent)
    except FileNotFoundError:
        return True  # Another process may be removing the folder, too.
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _removing_mark(project: ProjectFolder) -> str:
    # The new name has a digest of the folder's name, because the folder's name may already have the maximum length.
    digest = hashlib.blake2b(project.project_folder.encode(), digest_size=12).hexdigest()
    return f"{_REMOVING_PREFIX}{digest}-"


def _remove_entry(parent: int, name: str, *, mount: Mount, shown: Path) -> None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        folder = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        if mount_of_descriptor(folder) != mount:
            raise CrossesFileSystems(f"A file system is mounted at {printable(str(shown))}. Unmount it and try again.")
        if not os.path.samestat(os.fstat(folder), status):
            raise UnsafePath(
                f"{printable(str(shown))} was replaced while it was being removed, so it was kept. Try again."
            )
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        for child in names:
            _remove_entry(folder, child, mount=mount, shown=shown / child)
    finally:
        os.close(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)
