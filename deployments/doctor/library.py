"""Checks that the library exists, that files in it can be moved safely, and that no original is corrupt.

The checks write to a hidden folder in the library's root, and remove it afterwards; nothing else is changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deployments.doctor.file_systems import file_system_type, is_network
from deployments.doctor.finding import Area, Finding
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import StorageError
from storage.library.errors import UnsafePath
from storage.library.exclusive_rename import rename_noreplace
from storage.library.mounts import mount_of
from storage.library.paths import Library
from storage.photos.projects import ProjectsRepository
from storage.photos.verification import VerificationRepository
from storage.records import Project
from task_definitions.wording import portion, quantity

_area, _originals = Area("library"), Area("originals")

_NO_DISK = "Mount the library's disk, or correct PHOTOJOBS_LIBRARY_ROOT. `photojobs init FOLDER` finds your library."

#: The largest number of folders, projects or originals that a finding names.
_NAMED = 3


def examine_library(library: Library, *, has_projects: bool) -> Iterator[Finding]:
    """Check a library's root, which may be missing, and the folders of its tenants and projects.

    If the database has projects (`has_projects`), an empty root means that the library's disk is not mounted.
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
            f"{library.root} has no folders yet.",
            "`photojobs library add-project NAME` creates a project; or copy folders to LIBRARY/TENANT/PROJECT.",
        )
        tenants = []
    else:
        yield _area.fine("exists", f"{library.root} has the folders of {quantity(len(tenants), 'tenant')}.")
    type_name = file_system_type(library.root)
    where = "of another machine" if is_network(type_name) else "of this machine"
    yield _area.fine(
        "file_system",
        "The operating system does not report the library's file system."
        if type_name is None
        else f"The library is on a disk {where} ({type_name}).",
    )
    yield from _tried_out(library.root)
    yield from _projects(library, tenants)


def _tried_out(root: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(prefix=".photojobs-doctor-", dir=root, ignore_cleanup_errors=True) as name:
            yield _area.fine("writable", "Files and folders can be created in the library.")
            folder = Path(name)
            first, second = folder / "first", folder / "second"
            first.write_bytes(b"1")
            second.write_bytes(b"2")
            if _overwrites_nothing(first, second):
                yield _area.fine("rename", "The file system has an atomic rename that overwrites nothing.")
            else:
                yield _area.warning(
                    "rename",
                    "This file system cannot rename a file without the risk of overwriting another one.",
                    "photojobs avoids the risk with hard links or reserved names. While it runs, let no other program "
                    "rename files in the library.",
                )
            if (folder / "FIRST").exists():
                yield _area.warning(
                    "case",
                    "The file system does not distinguish IMG.jpg from img.jpg.",
                    "You need not do anything, but this disk cannot store photos whose names differ only in case.",
                )
            else:
                yield _area.fine("case", "The file system distinguishes IMG.jpg from img.jpg.")
    except OSError as error:
        yield _area.problem(
            "writable",
            f"{root} cannot be written: {error.strerror}.",
            "Correct the permissions of this folder, free some space, or mount its disk for writing.",
        )


def _overwrites_nothing(first: Path, second: Path) -> bool:
    try:
        rename_noreplace(first, second)
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


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
                if trash.exists() and mount_of(trash) != mount_of(path):
                    odd.append(str(path))
        except (StorageError, OSError) as error:
            unreadable.append(str(error).rstrip("."))
    if unreadable:
        yield _area.problem(
            "projects",
            f"{quantity(len(unreadable), 'folder')} cannot be read or cannot be written: "
            f"{', '.join(unreadable[:_NAMED])}{'' if len(unreadable) <= _NAMED else ', …'}.",
            "Correct the permissions of these folders, or check their disk.",
        )
    else:
        yield _area.fine("projects", f"All project folders ({count}) can be read and written.")
    if odd:
        yield _area.warning(
            "trash",
            ".trash is on another disk or mount than the photographs in "
            f"{quantity(len(odd), 'project')}: {', '.join(odd[:_NAMED])}{'' if len(odd) <= _NAMED else ', …'}.",
            "Make .trash an ordinary folder of the project, so that a removal is a rename instead of a copy.",
        )
    elif count:
        yield _area.fine("trash", "Trash and photographs are on the same disk, so a removal is a rename.")


def examine_folders(library: Library, database: Database) -> Iterator[Finding]:
    """Check whether each active project has its folder; without projects, yield nothing."""
    projects = ProjectsRepository(database).list(archived=False)
    missing = [project.project_name for project in projects if not _has_folder(library, project)]
    if missing:
        make = _area.problem if len(missing) == len(projects) else _area.warning
        yield make(
            "folders",
            f"The library has no folder of {portion(len(missing), len(projects), 'project')}: "
            f"{', '.join(missing[:_NAMED])}{'' if len(missing) <= _NAMED else ', …'}.",
            "Mount the disk, or rename the folders back. Upkeep archives projects without a folder, and later removes "
            "their rows.",
        )
    elif projects:
        yield _area.fine("folders", f"The library has the folders of all projects ({len(projects)}).")


def _has_folder(library: Library, project: Project) -> bool:
    try:
        return library.project(project.tenant_id or DEFAULT_TENANT, project.project_folder).exists()
    except UnsafePath:
        return False


def examine_originals(database: Database) -> Iterator[Finding]:
    """Check whether the verification of originals has found corrupt ones."""
    corrupt = VerificationRepository(database).corrupt()
    if not corrupt:
        yield _originals.fine(
            "contents", "No original is recorded as corrupt; `photojobs library verify` shows how many were verified."
        )
        return
    more = f" and {len(corrupt) - _NAMED} more" if len(corrupt) > _NAMED else ""
    yield _originals.problem(
        "contents",
        f"The contents of {quantity(len(corrupt), 'original')} have changed, but not the size and times: "
        f"{', '.join(one.path for one in corrupt[:_NAMED])}{more}.",
        "Check the disk. `photojobs library verify` lists the corrupt originals: restore them from a backup, or accept "
        "them with --accept.",
    )
