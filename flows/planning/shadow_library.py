"""Makes the shadow of a library: the same folders and names, and empty (sparse) files of the same size and time.

Steps work on the shadow as on the real library, and change only the shadow. The content of a file is read from its
original in the real library. The inode of the shadow's file identifies the original, even after a step moved the file.
"""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from storage.library.errors import UnsafePath
from storage.library.naming.kinds import MANIFEST_NAME
from storage.library.paths import Library
from storage.library.tree import LibraryTree

#: The shadow has real copies of manifests below this size, because steps read them. Steps refuse longer manifests.
_MAX_MANIFEST_BYTES: Final = (1 << 16) + 1


def cast_shadow(
    real: Library, shadow_root: Path, tree: LibraryTree, *, tenant_id: str, project_folders: Collection[str] | None
) -> None:
    """Make the shadow of a tenant's folder.

    Project folders of the tenant that are not in `project_folders` have only their manifests in the shadow, and folders
    of other tenants are empty. Symlinks in the shadow never lead into the library.

    Args:
        real: the real library.
        shadow_root: the root of the shadow, a path that does not exist yet in a folder that exists.
        tree: the index that receives the original of each file and folder of the shadow.
        tenant_id: the tenant.
        project_folders: the project folders whose files are shadowed; None for all.
    """
    _Shadow(real, shadow_root, tenant_id, project_folders).cast(tree)


class _Shadow:
    def __init__(
        self, real: Library, shadow_root: Path, tenant_id: str, project_folders: Collection[str] | None
    ) -> None:
        self._real_root = real.root
        self._root = shadow_root
        self._own_folder = shadow_root.parent.stat()
        self._wanted = project_folders
        try:
            self._tenant: Path | None = real.tenant(tenant_id).path
        except UnsafePath:
            # The steps report an unsafe tenant id.
            self._tenant = None
        self._nowhere = shadow_root.with_name(f"{shadow_root.name}-links")
        (self._nowhere / "folder").mkdir(parents=True)
        (self._nowhere / "file").touch()
        self._modes: list[tuple[Path, int]] = []

    def cast(self, tree: LibraryTree) -> None:
        tree.note_origins(self._cast())
        # The modes are set at the end, from the innermost folders outwards: a read-only folder accepts no new files.
        for path, mode in reversed(self._modes):
            path.chmod(mode)

    def _cast(self) -> Iterator[tuple[os.stat_result, Path]]:
        try:
            status = self._real_root.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            self._root.touch()
            return
        waiting = [(self._real_root, self._root, 0)]
        while waiting:
            real, shadow, depth = waiting.pop()
            try:
                listed = os.scandir(real)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                # The steps cannot list this folder either, so its shadow is an empty folder.
                listed = os.scandir(self._nowhere / "folder")
            shadow.mkdir()
            yield shadow.lstat(), real
            self._modes.append((shadow, _own_mode(real)))
            with listed as entries:
                for entry in entries:
                    path = Path(entry.path)
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except (FileNotFoundError, PermissionError):
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        # The folder for temporary files may be in the library.
                        if self._is_shown(path, depth) and not os.path.samestat(status, self._own_folder):
                            waiting.append((path, shadow / entry.name, depth + 1))
                    elif self._is_shown(path, depth):
                        self._make_file(path, shadow / entry.name, status, depth)
                        yield (shadow / entry.name).lstat(), path

    def _is_shown(self, path: Path, depth: int) -> bool:
        """Return whether the shadow has a copy of `path`, whose folder is `depth` levels below the root."""
        if depth == 0:
            return True
        if self._tenant is None or not path.is_relative_to(self._tenant):
            return False
        if depth == 1 or self._wanted is None:
            return True
        folder = path.relative_to(self._tenant).parts[0]
        return folder in self._wanted or folder.startswith(".") or (depth == 2 and path.name == MANIFEST_NAME)

    def _make_file(self, real: Path, shadow: Path, status: os.stat_result, depth: int) -> None:
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            shadow.symlink_to(self._link_target(real))
        elif not stat.S_ISREG(mode):
            os.mkfifo(shadow)
        elif depth == 2 and real.name == MANIFEST_NAME and status.st_size < _MAX_MANIFEST_BYTES:
            self._copy_manifest(real, shadow)
        else:
            with shadow.open("xb") as file:
                file.truncate(status.st_size)
        os.utime(shadow, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _copy_manifest(self, real: Path, shadow: Path) -> None:
        try:
            with real.open("rb") as file:
                content = file.read(_MAX_MANIFEST_BYTES)
        except OSError:
            shadow.touch()
            self._modes.append((shadow, 0))
        else:
            shadow.write_bytes(content)

    def _link_target(self, link: Path) -> Path:
        try:
            return self._nowhere / ("folder" if link.is_dir() else "file" if link.exists() else "missing")
        except OSError:
            # The target is in a folder that this process cannot open, or is not a possible path.
            return self._nowhere / "missing"


def _own_mode(real: Path) -> int:
    """Return the mode that gives this process the same rights in the shadow's folder as in the real one."""
    return sum(bit for bit, right in ((0o400, os.R_OK), (0o200, os.W_OK), (0o100, os.X_OK)) if os.access(real, right))
