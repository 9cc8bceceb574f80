"""Removing whole trees: a project's folder, and what lies in the trash. No other originals are ever unlinked."""

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from storage.library.atomic_write import fsync_folder
from storage.library.errors import CrossesFileSystems, UnsafePath
from storage.library.exclusive_rename import rename_noreplace
from storage.library.names import printable
from storage.library.paths import ProjectFolder

_REMOVING_PREFIX: Final = ".photojobs-removing-"
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_project_folder(project: ProjectFolder) -> bool:
    """Remove a project's folder with everything in it, its trash included. There is no way back.

    The folder first gets a hidden name in its tenant's folder, so that it is gone for everybody at once; then it is
    emptied. Called again after a crash, it goes on where it stopped, whether or not a folder of the same name has been
    made since: that one is removed too. No symlink is followed, and nothing that is mounted inside is entered.

    Returns:
        Whether there was anything to remove.

    Raises:
        UnsafePath: the path is not directly in its tenant's folder, or a symlink or a file stands in its place.
        CrossesFileSystems: something is mounted in the folder; what is mounted stays.
        OSError: the disk fails, or permissions are missing; what is left is removed by the next call.
    """
    tenant = project.tenant
    if project.path.parent != tenant.path or tenant.path.parent != project.library.root:
        raise UnsafePath(f"{printable(str(project.path))} is not directly in its tenant's folder. It is not removed.")
    if not project.library.tenant(tenant.tenant_id).path.is_dir():
        return False
    mark = _removing_mark(project)
    if project.exists():
        _set_aside(project.path, tenant.path / f"{mark}{secrets.token_hex(8)}")
    with os.scandir(tenant.path) as entries:
        leftovers = sorted(entry.name for entry in entries if entry.name.startswith(mark))
    for name in leftovers:
        remove_tree(tenant.path / name)
    return bool(leftovers)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all that is in it, without following any symlink on the way down.

    Only for callers that have made sure that it may go. What has gone already is no error.

    Raises:
        CrossesFileSystems: something is mounted below the path; what is mounted stays.
        OSError: the disk fails, or permissions are missing.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_entry(parent, path.name, device=os.fstat(parent).st_dev, shown=path)
    finally:
        os.close(parent)


def _set_aside(folder: Path, hidden: Path) -> None:
    if folder.lstat().st_dev != folder.parent.lstat().st_dev:
        raise CrossesFileSystems(f"{printable(str(folder))} is a mount point. Unmount it, then remove the project.")
    with contextlib.suppress(FileNotFoundError):  # Somebody else is removing it as well.
        if not rename_noreplace(folder, hidden):
            folder.rename(hidden)
        fsync_folder(folder.parent)


def _removing_mark(project: ProjectFolder) -> str:
    # A digest and not the name itself, which may be as long as a name can be.
    digest = hashlib.blake2b(project.project_folder.encode(), digest_size=12).hexdigest()
    return f"{_REMOVING_PREFIX}{digest}-"


def _remove_entry(parent: int, name: str, *, device: int, shown: Path) -> None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        if status.st_dev != device:
            raise CrossesFileSystems(
                f"Something is mounted at {printable(str(shown))}. Unmount it; then the removal can go on."
            )
        folder = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        if not os.path.samestat(os.fstat(folder), status):
            raise UnsafePath(f"{printable(str(shown))} was replaced while it was being removed. It is left alone.")
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        for child in names:
            _remove_entry(folder, child, device=device, shown=shown / child)
    finally:
        os.close(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)
