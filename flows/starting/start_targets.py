"""Checks that the tenant of a new task exists, and that the projects which the task names are active.

Otherwise, the task would do nothing and would seem to succeed. Commands make both checks. A flow run that starts a task
checks only the tenant. `start_task` makes no check: a program may start a task before the folder of its tenant exists.
The run of a saved plan makes no check: it leaves out archived projects. `storage.queue.new_tasks` refuses projects and
photos that do not exist or belong to another tenant.
"""

from contextlib import suppress

from sqlalchemy import Connection

from flows.process.runtime import Runtime
from storage.database.column_types import check_integer, check_tenant_id
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import ArchivedProject, UnknownTenant
from storage.history.undo_entries import UNDO_STEP
from storage.library.errors import LibraryUnavailable
from storage.photos.project_labels import read_reference
from storage.photos.projects import ProjectsRepository
from storage.queue.new_tasks import NewTask
from storage.queue.tasks import TasksRepository
from task_definitions.step_types import takes_archived
from task_definitions.wording import did_you_mean, shown

#: Largest number of tenants with which an unknown name is compared, to suggest a similar name.
MAX_SIMILAR_TENANTS = 1000


def check_targets(new: NewTask, source: Database | Connection) -> None:
    """Check the tenant of a new task, as `check_tenant` does, and that no project which the task names is archived.

    Archived projects are accepted if a step of the definition takes them, and if the task exists already.

    Raises:
        UnknownTenant, LibraryUnavailable: as for `check_tenant`.
        ArchivedProject: the task's project, or a project of its selection, is archived.
        InvalidValue: the id of the tenant or of the project cannot be stored.
    """
    if new.project_id is not None:
        check_integer(new.project_id, name="project_id", minimum=1)
    check_tenant(new, source)
    named = [] if new.selection is None else [read_reference(one)[1] for one in new.selection.project_ids]
    ids = [project_id for project_id in (new.project_id, *named) if project_id is not None]
    if not ids or takes_archived(new.definition.definition) or _exists(new, source):
        return
    for project in ProjectsRepository(source).list(tenant_id=new.tenant_id, archived=True, ids=ids):
        raise ArchivedProject(
            f"project {project.id} ({project.project_name}) is archived, and {new.definition.definition.name} works "
            "only on active projects; choose another project. If its folder was missing and has returned, "
            "`photojobs run folder_discovery` makes the project active again."
        )


def check_tenant(new: NewTask, source: Database | Connection) -> None:
    """Check that the tenant of a new task has a project or a folder in the library.

    The default tenant is also accepted if the library has no tenants. A task that exists already is not checked again.
    An undo is not checked, because it may bring back the tenant's only project.

    The rows are read from `source`. The library is that of the current runtime.

    Raises:
        UnknownTenant: the tenant has neither a project nor a folder.
        LibraryUnavailable: the tenant has no project, and the library's disk is missing.
        InvalidValue: the id of the tenant cannot be stored.
    """
    tenant_id = check_tenant_id(new.tenant_id)
    projects = ProjectsRepository(source)
    if projects.has_tenant(tenant_id) or any(step.type == UNDO_STEP for step in new.definition.steps):
        return
    library, known = Runtime.current().library, {*projects.list_tenants(limit=MAX_SIMILAR_TENANTS)}
    has_projects = bool(known)
    with suppress(LibraryUnavailable):
        known |= {*library.tenant_ids()}
    if tenant_id in known or (not known and tenant_id == DEFAULT_TENANT) or _exists(new, source):
        return
    if has_projects or not library.root.is_dir():
        # Without the library's disk, nothing shows whether the tenant has a folder. Only a new library may be empty.
        library.check_available()
    raise UnknownTenant(
        f"{shown(tenant_id)} has neither a project nor a folder in the library.{did_you_mean(tenant_id, known)} "
        "Name another tenant, or create its first project with `photojobs library add-project`."
    )


def _exists(new: NewTask, source: Database | Connection) -> bool:
    return TasksRepository(source).get_by_id(new.id) is not None
