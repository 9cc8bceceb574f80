"""Checks that a tenant exists, because a run for an unknown tenant would do nothing and would seem to succeed."""

from contextlib import suppress

from sqlalchemy import Connection

from flows.process.runtime import Runtime
from storage.database.column_types import check_tenant_id
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import UnknownTenant
from storage.history.undo_entries import UNDO_STEP
from storage.library.errors import LibraryUnavailable
from storage.photos.projects import ProjectsRepository
from storage.queue.new_tasks import NewTask
from storage.queue.tasks import TasksRepository
from task_definitions.wording import did_you_mean, shown

#: Largest number of tenants with which an unknown name is compared, to suggest a similar name.
MAX_SIMILAR_TENANTS = 1000


def check_tenant(new: NewTask, source: Database | Connection) -> None:
    """Check that the tenant of a new task has a project or a folder in the library.

    The default tenant is also accepted if the library has no tenants. A task that exists already is not checked again,
    and neither is an undo, which may bring back the only project of its tenant.

    The projects are read from `source`. The library is that of the current runtime.

    Raises:
        UnknownTenant: the tenant has neither a project nor a folder.
        InvalidValue: the tenant's id cannot be stored.
    """
    tenant_id = check_tenant_id(new.tenant_id)
    projects = ProjectsRepository(source)
    if projects.has_tenant(tenant_id):
        return
    is_undo = any(step.type == UNDO_STEP for step in new.definition.steps)
    if is_undo or TasksRepository(source).get_by_id(new.id) is not None:
        return
    known = {*projects.list_tenants(limit=MAX_SIMILAR_TENANTS)}
    # A missing library is no error here, because the steps report it.
    with suppress(LibraryUnavailable):
        known |= {*Runtime.current().library.tenant_ids()}
    if tenant_id in known or (not known and tenant_id == DEFAULT_TENANT):
        return
    raise UnknownTenant(
        f"tenant_id: {shown(tenant_id)} has neither a project nor a folder in the library."
        f"{did_you_mean(tenant_id, known)} "
        "Name another tenant, or create its first project with `photojobs library add-project`."
    )
