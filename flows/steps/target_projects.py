"""How a step goes through the projects of its job, and when it may conclude something from a missing file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from flows.step_context import StepContext
from storage.library import ProjectFolder, scan
from storage.library.errors import LibraryUnavailable
from storage.reconciliation import ProjectScan
from storage.records import Project
from storage.temporary_tables import BATCH_SIZE, temporary_tables

#: Does a step's work on one project, whose row is as it is after the wait for the project.
ProjectWork = Callable[[Project, ProjectFolder], None]


def check_library(ctx: StepContext) -> None:
    """Make sure that the library and the tenant's folder are there, before a missing file is taken for a deleted one.

    Raises:
        LibraryUnavailable: the root is missing or empty, or the tenant has no folder.
    """
    ctx.library.check_available()
    path = ctx.library.tenant(ctx.tenant_id).path
    if not path.is_dir():
        raise LibraryUnavailable(f"Folder {path} does not exist, though its tenant has projects. Is its disk mounted?")


def each_project(ctx: StepContext, work: ProjectWork, *, projects: Sequence[Project] | None = None) -> None:
    """Do work on each project of the job, or on those given, one after the other; each is held meanwhile.

    What fails for one is recorded and does not keep the others from their turn. A project that was archived, made
    active again or removed during the wait is left out.
    """
    if projects is None:
        projects = ctx.projects()
    for number, project in enumerate(projects):
        ctx.checkpoint()
        with ctx.project(project) as folder:
            fresh = ctx.reload(project)
            if fresh is not None and fresh.is_archived == project.is_archived:
                work(fresh, folder)
            else:
                ctx.report.count("skipped", example=f"{project.project_name}: was archived or removed meanwhile")
        ctx.progress(number + 1, len(projects))


@contextmanager
def project_scans(ctx: StepContext) -> Iterator[ProjectScan]:
    """A place to stage the scans of projects, one at a time."""
    with ctx.read() as connection, temporary_tables(connection):
        yield ProjectScan(connection)


def stage_scan(ctx: StepContext, staged: ProjectScan, project: Project, folder: ProjectFolder) -> None:
    """Scan a project's folder once; what is to be left alone there is reported.

    Raises:
        FolderMissing, FolderUnreadable: nothing may be concluded about any file.
    """
    staged.begin(project.id)
    entries = scan(folder)
    while batch := list(islice(entries, BATCH_SIZE)):
        ctx.checkpoint()
        for file in batch:
            if file.problem is not None:
                ctx.report.count("skipped", example=f"{file.printable_name}: {file.problem}")
        staged.add(batch)
    staged.settle()


def skip_missing_folder(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Whether the project has no folder, which is then reported: its rows say more than nothing does."""
    if folder.exists():
        return False
    ctx.report.count("skipped", example=f"{project.project_name}: folder {folder.project_folder} is missing")
    return True
