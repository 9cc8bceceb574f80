"""`photojobs library`: which projects there are, and a new one. Existing folders are the matter of folder_discovery."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.definitions import Json
from deployments.cli.opening import opened_database
from deployments.cli.terminal import confirm, print_json, print_table, remark
from deployments.new_project import add_project
from deployments.queue_figures import project_figures
from storage.settings import Settings
from storage.step_jobs import DEFAULT_TENANT

app = App(name="library")


@app.command(name="list")
def list_projects(
    *,
    tenant: str | None = None,
    archived: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json: Json = False,
) -> None:
    """List projects with the number of their photos.

    Parameters
    ----------
    tenant
        Only projects of this tenant.
    archived
        The archived projects instead of the active ones.
    """
    with opened_database() as database:
        found = project_figures(database, tenant_id=tenant, archived=archived)
    if json:
        print_json(found)
        return
    if not found:
        no_project = "No archived project" if archived else "No project"
        if archived or tenant is not None:
            remark(no_project + ("." if tenant is None else f" of tenant {tenant}."))
        else:
            remark(f"{no_project}. `photojobs run folder_discovery` makes one of each folder in the library.")
        return
    rows = [
        (
            figures.project.id,
            figures.project.tenant_id or DEFAULT_TENANT,
            figures.project.project_name,
            figures.project.project_folder,
            figures.photos,
            figures.without_derivatives,
            figures.failed,
        )
        for figures in found
    ]
    print_table(
        ("id", "tenant", "name", "folder", "photos", "without derivatives", "failed"),
        rows,
        numbers=("id", "photos", "without derivatives", "failed"),
    )


@app.command(name="add-project")
def add(name: str, /, *, tenant: str | None = None, folder: str | None = None, json: Json = False) -> None:
    """Add an empty project: its folder, its manifest and its row.

    Parameters
    ----------
    name
        The project's name, as people read it.
    tenant
        Whose project; by default that of the setting `tenant`.
    folder
        The name of its folder; by default made of the project's name.
    """
    settings = Settings.load()
    owner = settings.tenant if tenant is None else tenant
    with opened_database(settings=settings, create=True) as database:
        project, path = add_project(database, settings, name=name, tenant_id=owner, folder=folder)
    if json:
        print_json({"project": project, "path": path})
        return
    confirm(f"project {project.id} in {path}")
