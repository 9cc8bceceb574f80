"""Checks that the library exists, and that files in it can be moved safely.

It tries this in a hidden folder in the library's root, which it removes again; nothing else is changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.doctor.file_systems import file_system_type, is_network
from deployments.doctor.finding import Area, Finding
from storage.errors import StorageError
from storage.library import Library
from storage.library.exclusive_rename import rename_noreplace
from task_definitions.wording import quantity

_area = Area("library")

_NO_DISK = "Mount its disk, or correct PHOTOJOBS_LIBRARY_ROOT. `photojobs init FOLDER` finds out how your folders fit."


def examine_library(library: Library, *, has_projects: bool) -> Iterator[Finding]:
    """Check a library's root, its tenants and its projects.

    Args:
        library: the library; it may be missing.
        has_projects: whether the database has projects; an empty root then means that the disk is not mounted.
    """
    try:
        library.check_available()
        tenants = sorted(library.tenant_ids())
    except StorageError as error:
        is_new = library.root.is_dir() and not has_projects and os.access(library.root, os.R_OK)
        if not is_new:
            yield _area.problem("exists", str(error).partition(". Mount")[0] + ".", _NO_DISK)
            return
        yield _area.warning(
            "exists",
            f"{library.root} holds no folder yet.",
            "`photojobs library add-project NAME` makes a project; or copy folders to LIBRARY/TENANT/PROJECT.",
        )
        tenants = []
    else:
        yield _area.fine("exists", f"{library.root} has the folders of {len(tenants)} tenants.")
    type_name = file_system_type(library.root)
    where = "of another machine" if is_network(type_name) else "of this machine"
    yield _area.fine("file_system", f"It lies on a disk {where} ({type_name or 'of a type not known'}).")
    yield from _tried_out(library.root)
    yield from _projects(library, tenants)


def _tried_out(root: Path) -> Iterator[Finding]:
    try:
        with _folder_of_ours(root) as folder:
            yield _area.fine("writable", "Files and folders can be made in it.")
            first, second = folder / "first", folder / "second"
            first.write_bytes(b"1")
            second.write_bytes(b"2")
            if _overwrites_nothing(first, second):
                yield _area.fine("rename", "A rename that can overwrite nothing is one atomic step.")
            else:
                yield _area.warning(
                    "rename",
                    "The file system has no atomic rename that overwrites nothing.",
                    "Nothing to do: hard links or reservations are used instead, and still nothing is overwritten. "
                    "No other program should rename files in the library meanwhile.",
                )
            if (folder / "FIRST").exists():
                yield _area.warning(
                    "case",
                    "The file system takes IMG.jpg and img.jpg for the same name.",
                    "Nothing to do here; photos whose names differ by case alone cannot be brought to this disk.",
                )
            else:
                yield _area.fine("case", "The file system tells IMG.jpg from img.jpg.")
    except OSError as error:
        yield _area.problem(
            "writable",
            f"{root} cannot be written: {error.strerror}.",
            "Correct its permissions, or mount the disk so that it can be written.",
        )


def _overwrites_nothing(first: Path, second: Path) -> bool:
    try:
        rename_noreplace(first, second)
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def _folder_of_ours(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".photojobs-doctor-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _projects(library: Library, tenants: list[str]) -> Iterator[Finding]:
    odd: list[str] = []
    unreadable: list[str] = []
    count = 0
    for tenant_id in tenants:
        try:
            tenant = library.tenant(tenant_id)
            for name in tenant.project_folders():
                count += 1
                path = tenant.path / name
                if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                    unreadable.append(str(path))
                    continue
                trash = path / ".trash"
                if trash.exists() and trash.stat().st_dev != path.stat().st_dev:
                    odd.append(str(path))
        except (StorageError, OSError) as error:
            unreadable.append(str(error))
    if unreadable:
        yield _area.problem(
            "projects",
            f"{len(unreadable)} of {count} project folders cannot be read and written: {', '.join(unreadable[:3])}.",
            "Correct their permissions.",
        )
    else:
        yield _area.fine("projects", f"All {count} project folders can be read and written.")
    if odd:
        yield _area.warning(
            "trash",
            f"In {quantity(len(odd), 'project')} .trash is on another disk than the photographs: {', '.join(odd[:3])}.",
            "Let .trash be a folder of the project: then a removal is a rename, and not a copy.",
        )
    elif count:
        yield _area.fine("trash", "Trash and photographs lie on the same disk, so that a removal is a rename.")
