"""Moves originals and renames project folders without overwriting or losing a file, and removes derivatives.

After a crash at any point, repeat the call: it continues the operation. `flows.handlers.announced_moves` moves several
files together, and moves them back after a power cut.
"""

import contextlib
import errno
import os
import shutil
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from storage.library.atomic_write import fsync_folder, temporary_path
from storage.library.content_hash import ContentHasher, hash_contents
from storage.library.errors import (
    Collision,
    CopyMismatch,
    CrossesFileSystems,
    FolderUnreadable,
    NotEnoughSpace,
    SourceChanged,
    SourceMissing,
    UnsafePath,
)
from storage.library.exclusive_rename import (
    SpellingKept,
    change_spelling,
    finish_interrupted,
    is_renamable,
    remove_old_name,
    rename_exclusively,
    rename_noreplace,
)
from storage.library.listing import missing_folder
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import name_key, printable
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER

_BLOCK_BYTES: Final = 1 << 20
#: The number of bytes that must stay free on the target's disk after a copy, for databases and logs.
SPARE_BYTES: Final = 64 << 20
#: The attribute in which Linux stores a POSIX ACL, and the tag of the entry of the file's own group in it.
_ACCESS_LIST: Final = "system.posix_acl_access"
_GROUP_OF_FILE: Final = 4
# FAT stores times with a precision of two seconds, so the time of a copy may differ by this much.
_MTIME_TOLERANCE_NS: Final = 2_000_000_000


def move_without_overwrite(source: Path, target: Path, *, names: FolderNames | None = None) -> None:
    """Move a file to a new name, in the same or another folder, unless the name is taken. `Library` builds both paths.

    Within a file system, the move is one step if the system has such a step; if not, a crash may leave the file under
    both names. Between two file systems, the file is copied to a temporary name in the target's folder, synced, read
    back, compared and renamed. Only then is the source removed. The file keeps its times, its mode, and, if the
    system allows it, its owner, its access list and the attributes in which file managers store ratings and tags.

    A second call finishes a move that a crash interrupted. If the move had ended, the call raises `SourceMissing`.

    For a batch of moves, give the names in the target's folder as `names`; this call updates them. Without `names`, the
    folder is scanned. With an empty `FolderNames`, the move fails only if the target itself exists.

    Raises:
        SourceMissing: the file does not exist, or no longer exists.
        Collision: the target exists, or a file whose name differs from the target only in case or Unicode form; or the
            file system ignores case, and the file keeps its spelling.
        FolderMissing: the target's folder does not exist.
        FolderUnreadable: the target's folder could not be listed completely, so the name may be taken.
        NotEnoughSpace, CopyMismatch, SourceChanged: the copy to another file system failed; the source stays.
        UnsafePath: the source is not a regular file.
    """
    status = _status(source)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePath(
            f"{printable(str(source))} is not a regular file, so it stays where it is. Replace it with a regular file, "
            "or take it out of the library."
        )
    if source == target:
        return
    try:
        if not (finish_interrupted(source, target) or _finish_copy(source, target)):
            if names is not None and not os.path.lexists(target):
                names.discard(target.name)  # An earlier, interrupted call of this move had only reserved the name.
            _refuse_taken_name(source, target, names)
            _place(source, target, status)
    except SpellingKept as error:
        raise _kept_spelling(source, target) from error
    except FileExistsError as error:
        raise _collision(target, target.name) from error
    except FileNotFoundError as error:
        if not target.parent.is_dir():
            raise missing_folder(target.parent) from error
        raise SourceMissing(
            f"{printable(str(source))} disappeared while it was being moved: another program moved or removed it. "
            "Stop that program, and try again."
        ) from error
    if names is not None:
        if source.parent == target.parent:
            names.discard(source.name)
        names.add(target.name)


def sync_moves(moves: Iterable[tuple[Path, Path]]) -> None:
    """Wait until moves, given as pairs of source and target, and the folders created for them are on the disk.

    The new names are synced first. Some file systems write the two names of a move separately, and a file must have one
    of the two names at any time.
    """
    pairs = list(moves)
    new = {target.parent for _, target in pairs}
    # A move creates at most two nested folders; the folders that contain them are synced, too.
    others = {folder for _, target in pairs for folder in target.parents[1:3]} | {source.parent for source, _ in pairs}
    for folder in (*sorted(new), *sorted(others - new, reverse=True)):
        with contextlib.suppress(FileNotFoundError):
            fsync_folder(folder)


def rename_folder_without_overwrite(source: Path, target: Path, *, names: FolderNames | None = None) -> None:
    """Rename a folder in one atomic step, unless the new name is taken; for `names` see `move_without_overwrite`.

    Raises:
        SourceMissing: the folder does not exist, or no longer exists.
        Collision: the target exists, or an entry whose name differs from the target only in case or Unicode form; or
            the file system ignores case, and the folder keeps its spelling.
        CrossesFileSystems: the target is on another file system, or the folder is a mount point or in a lower layer of
            an overlay.
        UnsafePath: the source is a symlink or not a folder.
    """
    status = _status(source, "Folder ")
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafePath(f"{printable(str(source))} is not a folder. Move it out of the library.")
    if source == target:
        return
    # If the file system ignores case, the target may be the source itself in another spelling. Then its name cannot be
    # taken. A listing may show the folder in a third spelling, which the check would take for another folder, so there
    # is no check.
    is_same = _is_same_folder(source, target)
    if not (is_same and name_key(source.name) == name_key(target.name)):
        _refuse_taken_name(source, target, names)
    try:
        if is_same:
            change_spelling(source, target)
        elif not rename_noreplace(source, target):
            if os.path.lexists(target):
                raise _collision(target, target.name)
            # The target was missing a moment ago. If it exists now, the rename can at most replace an empty folder.
            source.rename(target)
        # The new name must be on the disk before the project's row has it.
        fsync_folder(target.parent)
    except SpellingKept as error:
        raise _kept_spelling(source, target) from error
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise _collision(target, target.name) from error
        if error.errno in {errno.EXDEV, errno.EBUSY}:
            raise CrossesFileSystems(
                f"Folder {printable(str(source))} cannot be renamed to {printable(str(target))}: they are on different "
                "file systems, the folder is a mount point, or it is in a lower layer of an overlay, such as the image "
                "of a container. Unmount the folder, copy it into a volume, or keep its name."
            ) from error
        raise


def remove_derivative(path: Path) -> bool:
    """Remove a thumbnail or preview. A missing file is not an error.

    Returns:
        Whether the file existed.

    Raises:
        UnsafePath: the path is a folder, the path is not directly in a project's `.thumb` or `.preview`, or the
            `.thumb` or `.preview` is a symlink.
    """
    folder = path.parent
    plain = path.is_absolute() and os.pardir not in path.parts and path.name not in {"", os.curdir, os.pardir}
    if not plain or folder.name not in {THUMB_FOLDER, PREVIEW_FOLDER}:
        raise UnsafePath(
            f"{printable(str(path))} is not a derivative, so it is not removed. Move originals to the trash instead."
        )
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise UnsafePath(
                f"{printable(str(folder))} is not a folder, so nothing in it is removed. Replace it with a folder."
            )
        if stat.S_ISDIR(path.lstat().st_mode):
            raise UnsafePath(f"{printable(str(path))} is a folder, so it is not removed. Move it to another place.")
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _place(source: Path, target: Path, status: os.stat_result) -> None:
    try:
        rename_exclusively(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, target, status)


def _move_across(source: Path, target: Path, status: os.stat_result) -> None:
    total_bytes, _, free_bytes = shutil.disk_usage(target.parent)
    # A total of 0 means that the size is unknown, as for a tmpfs without a limit and for many file systems of FUSE.
    if total_bytes and free_bytes < status.st_size + SPARE_BYTES:
        raise NotEnoughSpace(
            f"{printable(source.name)} needs {status.st_size:,} bytes in {target.parent}, and {SPARE_BYTES:,} more "
            f"bytes must stay free there, but only {free_bytes:,} are free. Free some space there."
        )
    temporary = temporary_path(target)
    try:
        copied = _copy(source, temporary)
        if copied != hash_contents(temporary):
            raise CopyMismatch(
                f"The copy of {printable(source.name)} in {target.parent} differs from the original, which stays where "
                "it is. Check the disks of both folders."
            )
        # The copy gets the original's time: `_finish_copy` uses it to recognize an interrupted move.
        _copy_attributes(source, status, temporary)
        _refuse_changed(source, status)
        placed = temporary.lstat()
        rename_exclusively(temporary, target, on_behalf_of=source)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_folder(target.parent)
    _refuse_changed(source, status)
    remove_old_name(source, target, before=status, placed=placed)


def _finish_copy(source: Path, target: Path) -> bool:
    try:
        before, after = source.lstat(), target.lstat()
    except FileNotFoundError:
        return False
    if (
        # One file that two mounts show is not a copy.
        os.path.samestat(before, after)
        or not stat.S_ISREG(after.st_mode)
        or before.st_size != after.st_size
        or abs(before.st_mtime_ns - after.st_mtime_ns) > _MTIME_TOLERANCE_NS
        or is_renamable(source, target)
        or hash_contents(source) != hash_contents(target)
    ):
        return False
    fsync_folder(target.parent)
    # The comparison of large files takes seconds, in which another program may have changed one of them, so both files
    # are checked again.
    _refuse_changed(source, before)
    _refuse_changed(target, after)
    source.unlink()
    return True


def _copy(source: Path, target: Path) -> str:
    hasher = ContentHasher()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with source.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                hasher.update(block)
                remaining = memoryview(block)
                while remaining:
                    remaining = remaining[os.write(descriptor, remaining) :]
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            # This call removes the copy from the page cache, so that the comparison reads the disk.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return hasher.content_hash


def _copy_attributes(source: Path, status: os.stat_result, target: Path) -> None:
    # Some file systems cannot store a mode, an exact time or further attributes, and only root may set the owner. The
    # move succeeds nevertheless.
    if sys.platform == "linux":
        names: list[str] = []
        with contextlib.suppress(OSError):
            # File managers store ratings and tags as attributes of users. Attributes of the system belong to the disk,
            # so only attributes of users are copied.
            names = [name for name in os.listxattr(source, follow_symlinks=False) if name.startswith("user.")]
        for name in names:
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    with contextlib.suppress(OSError):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if sys.platform == "linux":
        mode = _copy_access_list(source, mode, target)
    with contextlib.suppress(OSError):
        target.chmod(mode)
    with contextlib.suppress(OSError):
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_access_list(source: Path, mode: int, target: Path) -> int:
    """Copy the list of further users and groups that may use a file (a POSIX ACL), and return the mode of the copy.

    If a file has such a list, the bits of the group in its mode are those of the list's mask. A copy without the list
    would give the group all rights in the mask, so the copy gets a mode with the rights of the group itself.
    """
    try:
        access_list = os.getxattr(source, _ACCESS_LIST, follow_symlinks=False)
    except OSError:
        return mode
    try:
        os.setxattr(target, _ACCESS_LIST, access_list, follow_symlinks=False)
    except OSError:
        entries = struct.iter_unpack("<HHI", access_list[4:])
        of_group = next((rights for tag, rights, _ in entries if tag == _GROUP_OF_FILE), 0)
        return (mode & ~stat.S_IRWXG) | (mode & (of_group << 3))
    return mode


def _refuse_changed(source: Path, before: os.stat_result) -> None:
    now = source.lstat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise SourceChanged(f"{printable(str(source))} was written to while it was being moved. Try again.")


def _status(source: Path, kind: str = "") -> os.stat_result:
    try:
        return source.lstat()
    except FileNotFoundError as error:
        raise SourceMissing(
            f"{kind}{printable(str(source))} does not exist. Another program may have moved or removed it. Move it "
            "back, and try again."
        ) from error


def _refuse_taken_name(source: Path, target: Path, names: FolderNames | None) -> None:
    if names is None:
        try:
            names = FolderNames.read(target.parent)
        except FolderUnreadable as error:
            raise FolderUnreadable(f"{error} Nothing is moved into this folder.") from error
    taken = names.same_as(target.name)
    if source.parent == target.parent:
        taken -= {source.name}
    if taken:
        raise _collision(target, min(taken))


def _is_same_folder(source: Path, target: Path) -> bool:
    try:
        return source.parent == target.parent and source.samefile(target)
    except FileNotFoundError:
        return False


def _collision(target: Path, taken: str) -> Collision:
    return Collision(
        f"“{printable(target.name)}” cannot be put into {target.parent}: “{printable(taken)}” already exists there. "
        "Choose another name; nothing was overwritten."
    )


def _kept_spelling(source: Path, target: Path) -> Collision:
    return Collision(
        f"{printable(str(source))} keeps its spelling: the file system ignores case, and the operating system does not "
        f"change only the case of a name. Rename it to another name, and then to “{printable(target.name)}”."
    )
