"""Checks that a tenant exists, because a run for an unknown tenant would do nothing and would seem to succeed."""

from contextlib import suppress

from flows.process.runtime import Runtime
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import UnknownTenant
from storage.library.errors import LibraryUnavailable
from storage.photos.projects import ProjectsRepository
from task_definitions.wording import did_you_mean, shown

#: Largest number of tenants with which an unknown name is compared, to suggest a similar name.
MAX_SIMILAR_TENANTS = 1000


def check_tenant(tenant_id: str, runtime: Runtime) -> None:
    """Check that the tenant has a project or a folder in the library.

    The default tenant is also accepted if the library has no tenants.

    Raises:
        UnknownTenant: the tenant has neither a project nor a folder.
    """
    projects = ProjectsRepository(runtime.database)
    if projects.has_tenant(tenant_id):
        return
    known = {*projects.list_tenants(limit=MAX_SIMILAR_TENANTS)}
    # A missing library is no error here, because the steps report it.
    with suppress(LibraryUnavailable):
        known |= {*runtime.library.tenant_ids()}
    if tenant_id in known or (not known and tenant_id == DEFAULT_TENANT):
        return
    raise UnknownTenant(
        f"tenant_id: {shown(tenant_id)} has neither a project nor a folder in the library."
        f"{did_you_mean(tenant_id, known)} "
        "Name another tenant, or create its first project with `photojobs library add-project`."
    )
