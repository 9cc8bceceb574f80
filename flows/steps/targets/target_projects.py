"""The loop of a handler over the projects of its job, and the checks before a missing file counts as deleted.

If the disk of a library, a tenant or a project is missing, the checks raise errors, so that no rows are removed. The
step in `flows.steps.projects.orphaned_projects` archives a project whose folder is missing, and decides when its rows
are removed. `flows.steps.targets.whereabouts` finds renamed folders.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from flows.errors import PermanentStepError
from flows.handlers.step_context import StepContext
from flows.steps.targets.folder_owner import other_owner, renamed_to
from storage.comparison.reconciliation import ProjectComparison, has_available_photos, known_names
from storage.library.errors import LibraryError, LibraryUnavailable
from storage.library.naming.names import is_decodable, unsafe_reason
from storage.library.paths import ProjectFolder
from storage.library.scan import ScannedFile, list_names, look_at
from storage.photos.projects import ProjectsRepository
from storage.records import Project

#: A function that does a step's work on one project. It gets the row as it is after the wait for the project.
ProjectWork = Callable[[Project, ProjectFolder], None]


class ProjectUnavailable(PermanentStepError):
    """A project's folder is missing, may be the mount point of a missing disk, or now belongs to another project."""


def check_library(ctx: StepContext) -> None:
    """Check that the library and the tenant's folder exist, before a missing file counts as deleted.

    Raises:
        LibraryUnavailable: the root is missing or empty, or the tenant has no folder.
    """
    ctx.library.check_available()
    path = ctx.library.tenant(ctx.tenant_id).path
    if not path.is_dir():
        raise LibraryUnavailable(
            f"Folder {path} does not exist, although its tenant has projects. Mount its disk. If the folder was "
            "removed on purpose, delete each project with `photojobs run project_delete`."
        )


def check_disk(ctx: StepContext) -> None:
    """Check that the disks of the library and the tenant are mounted, before a missing folder counts as removed.

    Raises:
        LibraryUnavailable: see `check_library` and `TenantFolder.check_available`.
    """
    check_library(ctx)
    active = ProjectsRepository(ctx.database).list(tenant_id=ctx.tenant_id, archived=False)
    ctx.library.tenant(ctx.tenant_id).check_available(projects=len(active))


def checked_projects(ctx: StepContext) -> list[Project]:
    """Return the active projects of the job. If there are any, check first that their disk is mounted.

    Raises:
        LibraryUnavailable: see `check_library`.
    """
    projects = ctx.projects()
    if projects:
        check_library(ctx)
    return projects


def each_project(
    ctx: StepContext, work: ProjectWork, *, projects: Sequence[Project] | None = None, skips_missing: bool = False
) -> None:
    """Call `work` for each project of the job, or for each of `projects`, and claim the project during the call.

    A failure is recorded, and the loop continues with the next project. If a project was archived, made active again or
    removed while the step waited for it, the project is left out. With `skips_missing`, projects without a folder are
    left out too, because their disk may not be mounted; see `skip_missing_folder`.
    """
    if projects is None:
        projects = ctx.projects()
    for number, project in enumerate(projects):
        ctx.checkpoint()
        # `ctx.project` has recorded the error, so the loop continues.
        with suppress(LibraryError, OSError), ctx.project(project) as folder:
            fresh = ctx.reload(project)
            if fresh is None or fresh.is_archived != project.is_archived:
                change = "removed" if fresh is None else "archived" if fresh.is_archived else "made active again"
                ctx.report.count("skipped", example=f"{project.project_name}: the project was {change} meanwhile")
            elif not skips_missing:
                check_owner(ctx, fresh, folder)
                work(fresh, folder)
            elif not skip_missing_folder(ctx, fresh, folder):
                work(fresh, folder)
        ctx.progress(number + 1, len(projects))


@contextmanager
def compared(
    ctx: StepContext, project: Project | None, folder: ProjectFolder, *, is_reported: bool = True
) -> Iterator[ProjectComparison]:
    """Compare a project's rows with the files in its folder, which is listed once.

    If `project` is None, the folder has no rows. Files that must stay unchanged are reported as skipped if
    `is_reported`.

    Raises:
        FolderMissing, FolderUnreadable: the folder could not be listed.
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
        if project is not None:
            with ctx.read() as connection:
                comparison.add_rows(connection, project.id)
        for listed in list_names(folder):
            ctx.checkpoint()
            for file in listed.odd:
                report(file)
            comparison.add_names(listed)
        yield comparison


def check_owner(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Check that `folder` belongs to `project`. Another project's folder or a new folder may have got its name.

    Raises:
        ProjectUnavailable: the folder belongs to another project, or is a new one; see `other_owner` and `renamed_to`.
    """
    owner = other_owner(ctx, project, folder)
    if owner is not None:
        raise ProjectUnavailable(
            f"{project.project_name}: folder {folder.path} has the manifest and the photos of project {owner.id} "
            f"({owner.project_name}), so it is that project's folder under another name. Nothing was changed. Run "
            "`photojobs run folder_discovery`: it stores the new names of the folders."
        )
    name = renamed_to(ctx, project, folder)
    if name is not None:
        raise ProjectUnavailable(
            f"{project.project_name}: the project's folder was renamed to {name}, and {folder.path} is a new folder "
            "with its former name. Nothing was changed. Run `photojobs run folder_discovery`: it stores the new name."
        )


def check_project(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Check that a folder has files of the project, before missing files count as deleted or files are written there.

    Raises:
        ProjectUnavailable: the project has photos, but the folder has neither a manifest nor a file of a photo; or the
            folder is another project's folder, see `check_owner`.
        FolderMissing, FolderUnreadable, UnsafePath: the folder could not be listed; see `storage.library.scan`.
    """
    check_owner(ctx, project, folder)
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
        "the project. Nothing was changed. Mount its disk, or bring the photos back; if they no longer exist, delete "
        "the project with `photojobs run project_delete`."
    )


def skip_missing_folder(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Return whether the project has no folder.

    A missing folder is reported as skipped, and the project's rows are kept.

    Raises:
        ProjectUnavailable: the folder has no files of the project; see `check_project`.
    """
    if folder.exists():
        check_project(ctx, project, folder)
        return False
    ctx.report.count("skipped", example=f"{project.project_name}: folder {folder.project_folder} is missing")
    return True


def has_safe_name(ctx: StepContext, photo_id: int, name: str) -> bool:
    """Return whether a photo's base name can be a file name on this system. If not, report the photo as skipped.

    A missing file does not mean that the photo was deleted if no file can have the photo's name.
    """
    reason = unsafe_reason(name)
    if reason is not None:
        ctx.report.count("skipped", example=f"photo {photo_id}: its name cannot be a file name: {reason}")
    return reason is None
