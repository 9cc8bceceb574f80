"""How a step goes through the projects of its job, and when it may conclude something from a missing file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from flows.errors import PermanentStepError
from flows.handlers.step_context import StepContext
from storage.comparison.reconciliation import ProjectComparison, has_available_photos, known_names
from storage.library import ProjectFolder, ScannedFile, list_names, look_at
from storage.library.errors import LibraryError, LibraryUnavailable
from storage.library.names import is_decodable
from storage.records import Project

#: Does a step's work on one project, whose row is as it is after the wait for the project.
ProjectWork = Callable[[Project, ProjectFolder], None]


class ProjectUnavailable(PermanentStepError):
    """A project's folder holds neither its manifest nor any of its photos, as the mount point of a disk does."""


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
        # What fails inside is recorded there; what keeps a project from being entered, too.
        with suppress(LibraryError, OSError), ctx.project(project) as folder:
            fresh = ctx.reload(project)
            if fresh is not None and fresh.is_archived == project.is_archived:
                work(fresh, folder)
            else:
                ctx.report.count("skipped", example=f"{project.project_name}: was archived or removed meanwhile")
        ctx.progress(number + 1, len(projects))


@contextmanager
def compared(
    ctx: StepContext, project: Project, folder: ProjectFolder, *, is_reported: bool = True
) -> Iterator[ProjectComparison]:
    """A project's rows beside what lies in its folder, listed once.

    Args:
        ctx: the job's.
        project: which one.
        folder: its folder.
        is_reported: whether what is to be left alone there is reported.

    Raises:
        FolderMissing, FolderUnreadable: nothing may be concluded about any file.
    """

    def report(file: ScannedFile) -> None:
        if is_reported:
            ctx.report.count("skipped", example=f"{file.printable_name}: {file.problem}")

    def look(name: str) -> ScannedFile | None:
        file = look_at(folder, name)
        if file is not None and file.problem is not None:
            report(file)
        return file

    with closing(ProjectComparison(extensions=ctx.library.accepted_extensions, look=look)) as comparison:
        with ctx.read() as connection:
            comparison.add_rows(connection, project.id)
        for listed in list_names(folder):
            ctx.checkpoint()
            for file in listed.odd:
                report(file)
            comparison.add_names(listed)
        yield comparison


def check_project(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Make sure that a folder holds the project, before anything is concluded from it or written there.

    Raises:
        ProjectUnavailable: the folder has neither a manifest nor a file of a photo, though rows say so.
        FolderMissing, FolderUnreadable, UnsafePath: see `storage.library.scan`.
    """
    if folder.manifest_path.exists():
        return
    describe = folder.library.accepted_extensions.describe
    with ctx.read() as connection:
        if not has_available_photos(connection, project.id):
            return
        for listed in list_names(folder):
            names = [*listed.names, *(file.name for file in listed.odd if is_decodable(file.name))]
            base_names = sorted({describe(name).base_name for name in names})
            if base_names and known_names(connection, project.id, base_names):
                return
    raise ProjectUnavailable(
        f"{project.project_name}: folder {folder.path} is unavailable: it holds neither the manifest nor any photo of "
        "the project. Nothing was changed. Mount its disk, or bring the photos back; if they are gone, delete the "
        "project."
    )


def skip_missing_folder(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Whether the project has no folder, which is then reported: its rows say more than nothing does.

    Raises:
        ProjectUnavailable: see `check_project`.
    """
    if folder.exists():
        check_project(ctx, project, folder)
        return False
    ctx.report.count("skipped", example=f"{project.project_name}: folder {folder.project_folder} is missing")
    return True
