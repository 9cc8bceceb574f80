"""Makes the shadow on which a plan runs its task: a temporary database with copies of rows, and a shadow library.

`storage.shadow.copied_rows` decides which rows are copied, and `flows.planning.shadow_library` which files.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from flows.planning.planned_images import PlannedImages
from flows.planning.shadow_library import cast_shadow
from flows.process.runtime import Runtime
from flows.steps.targets.folder_owner import manifest_id
from flows.telemetry.events import Events
from flows.telemetry.span_makers import Tracing
from storage.database.engine import Database
from storage.database.snapshot import snapshot
from storage.history.undo_entries import UNDO
from storage.library.errors import LibraryError
from storage.library.paths import Library
from storage.library.tree import LibraryTree
from storage.photos.projects import ProjectsRepository
from storage.queue.new_tasks import NewTask
from storage.settings import Settings
from storage.shadow.copied_rows import copy_rows, projects_in_reach
from storage.shadow.row_changes import RowChanges
from task_definitions.step_types import BUILTIN_STEP_TYPES

if TYPE_CHECKING:
    from flows.imaging.isolation.image_processing import ImageProcessing


class ShadowRuntime(Runtime):
    """A runtime whose database and library are a shadow. It reads images from the real library.

    It writes no log lines and creates no spans for jobs, because the jobs of a plan are not jobs of the real database.

    Args:
        database: the shadow's database.
        settings: the settings, with the root of the shadow library.
        tree: the index that finds the original of each file of the shadow.
        is_thorough: whether a plan decodes all images; see `PlannedImages`.
    """

    is_of_plan = True

    def __init__(self, database: Database, *, settings: Settings, tree: LibraryTree, is_thorough: bool) -> None:
        super().__init__(database, settings=settings)
        self.events, self.tracing = Events(), Tracing()
        self._tree = tree
        self._is_thorough = is_thorough
        self._images_lock = threading.Lock()
        self._planned_images: PlannedImages | None = None

    @cached_property
    def library(self) -> Library:
        """The shadow library."""
        return replace(super().library, origin=self._tree.origin)

    @property
    def images(self) -> "ImageProcessing":
        """The image processing of the plan, which reads images from the real library."""
        with self._images_lock:
            if self._planned_images is None:
                self._planned_images = PlannedImages(super().images, self.library, is_thorough=self._is_thorough)
            return self._planned_images


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A shadow on which a task can run.

    Attributes:
        runtime: the runtime that runs jobs on the shadow.
        tree: finds the changes of the shadow's files.
        rows: finds the changes of the shadow's rows.
        root: the root of the shadow library.
        real_root: the root of the real library.
    """

    runtime: ShadowRuntime
    tree: LibraryTree
    rows: RowChanges
    root: Path
    real_root: Path

    def in_real_words(self, text: str) -> str:
        """Return a step's message, with the paths of the real library in place of the shadow's paths."""
        return text.replace(str(self.root), str(self.real_root))


@contextmanager
def shadow_for(runtime: Runtime, new: NewTask, *, is_thorough: bool) -> Iterator[Shadow]:
    """Make a shadow of all rows and files that a task can read, in a temporary folder that is removed after the block.

    Rows are read in one snapshot, but files one after the other. So if a file changes meanwhile, the shadow may have
    its old or its new state.
    """
    with tempfile.TemporaryDirectory(prefix="photojobs-plan-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        root = folder / "library"
        database = Database(folder / "shadow.db", clock=runtime.database.clock)
        with LibraryTree(root, folder / "tree.db") as tree:
            try:
                database.migrate()
                folders = _copy_rows(runtime.database, database, new, runtime.library)
                cast_shadow(runtime.library, root, tree, tenant_id=new.tenant_id, project_folders=folders)
                settings = runtime.settings.model_copy(update={"library_root": root})
                opened = ShadowRuntime(database, settings=settings, tree=tree, is_thorough=is_thorough)
                # A handler may call the functions of `flows`, such as `start_task`, which use the current runtime.
                with opened as shadowed, shadowed.as_current():
                    tree.look()
                    yield Shadow(
                        runtime=shadowed,
                        tree=tree,
                        rows=RowChanges(database),
                        root=root,
                        real_root=runtime.library.root,
                    )
            finally:
                database.close()


def _copy_rows(real: Database, shadow: Database, new: NewTask, library: Library) -> set[str] | None:
    """Copy the rows, and return the project folders on which the task can work; None means all folders."""
    looks_around = any(_looks_around(step.type) for step in new.definition.steps)
    is_whole = looks_around or str(new.scope) == "global"
    with snapshot(real) as connection:
        project_ids = projects_in_reach(connection, new, of_whole_tenant=looks_around)
        if not is_whole:
            project_ids = sorted({*project_ids, *_owners_of_folders(connection, project_ids, library, new.tenant_id)})
        copy_rows(
            connection,
            shadow,
            tenant_id=new.tenant_id,
            project_ids=project_ids,
            undone_task_id=(new.payload or {}).get(UNDO),
        )
    if is_whole:
        return None
    return {project.project_folder for project in ProjectsRepository(shadow).list(ids=project_ids)}


def _owners_of_folders(
    connection: Connection, project_ids: Sequence[int], library: Library, tenant_id: str
) -> Iterator[int]:
    """Yield the ids of the projects to which the folders of these projects belong according to their manifests.

    If users exchange the names of folders, a step compares the folder with the photos of both projects.
    """
    projects = {project.id: project for project in ProjectsRepository(connection).list(tenant_id=tenant_id)}
    for project_id in project_ids:
        with suppress(LibraryError, OSError):
            owner_id = manifest_id(library.project(tenant_id, projects[project_id].project_folder))
            if owner_id in projects:
                yield owner_id


def _looks_around(step_type: str) -> bool:
    known = BUILTIN_STEP_TYPES.get(step_type)
    # A step of another package may read any project of the tenant.
    return known is None or known.reads_other_projects
