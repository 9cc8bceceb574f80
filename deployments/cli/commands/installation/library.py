"""`photojobs library`: list projects, add an empty one, and show which originals were verified.

The definition `folder_discovery` adds existing folders.
"""

from __future__ import annotations

from collections.abc import Iterator

from cyclopts import App

from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Flag, Json, Several
from deployments.cli.output.terminal import confirm, print_json, print_outcome, print_table, remark, say
from deployments.library.new_project import add_project
from deployments.status.listed_rows import project_figures
from storage.default_tenant import DEFAULT_TENANT
from storage.photos.verification import Amount, Coverage, VerificationRepository
from storage.settings import Settings
from task_definitions.wording import quantity, size_in_words

app = App(name="library")


@app.command(name="list")
def list_projects(*, tenant: str | None = None, archived: Flag = False, json: Json = False) -> None:
    """List projects with the number of their photos.

    Args:
        tenant: Only projects of this tenant.
        archived: List archived projects instead of active ones.
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
            remark("There is no project. `photojobs run folder_discovery` makes a project of each folder.")
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
        spared=("folder", "tenant"),
    )


@app.command(name="add-project")
def add(name: str, /, *, tenant: str | None = None, folder: str | None = None, json: Json = False) -> None:
    """Add an empty project: its folder, its manifest and its row.

    Args:
        name: The project's name, which people see.
        tenant: The tenant of the project; by default the setting `tenant`.
        folder: The name of its folder; by default derived from the project's name.
    """
    settings = Settings.load()
    owner = settings.tenant if tenant is None else tenant
    with opened_database(settings=settings, create=True, needs_library=True) as database:
        project, path = add_project(database, settings, name=name, tenant_id=owner, folder=folder)
    print_outcome(f"project {project.id} was added: {path}", {"project": project, "path": path}, json=json)


@app.command(name="verify")
def show_verification(*, tenant: str | None = None, accept: Several = (), json: Json = False) -> int:
    """Show how many originals were verified, when, and which originals are corrupt.

    `photojobs run verify_originals` verifies originals: it reads them again, and starts with those that were read
    longest ago. An original is corrupt if its contents have changed, but not its size and times. Restore it from a
    backup; the next verification or the next upkeep then marks it as intact.

    Args:
        tenant: Only originals of this tenant.
        accept: Accept the current contents of the corrupt original with this path, as the list shows it; may be given
            several times.
    """
    settings = Settings.load()
    with opened_database(settings=settings, upgrade=bool(accept)) as database:
        if accept:
            from deployments.library.accepted_originals import accept_original

            for path in accept:
                accept_original(database, settings, path, tenant_id=tenant)
                if not json:
                    confirm(f"accepted: {path}")
        repository = VerificationRepository(database)
        coverage = repository.coverage(now=database.clock(), tenant_id=tenant)
        corrupt = repository.corrupt(tenant_id=tenant)
    if json:
        print_json({"coverage": coverage, "corrupt": corrupt})
    else:
        print_table(
            ("verified", "originals", "size", "share"),
            list(_coverage_rows(coverage)),
            numbers=("originals", "size", "share"),
        )
        if coverage.unreadable.originals:
            unreadable = quantity(coverage.unreadable.originals, "original")
            say(
                f"\n{unreadable} could not be read at the last attempt. `photojobs jobs list --type verify_originals` "
                "lists the jobs with their errors."
            )
        if corrupt:
            say(f"\nCorrupt: {quantity(len(corrupt), 'original')} with changed contents, but the same size and times.")
            rows = [
                (
                    one.path,
                    one.tenant_id or DEFAULT_TENANT,
                    one.verified_at,
                    one.corrupt_since,
                    size_in_words(one.size_bytes),
                )
                for one in corrupt
            ]
            print_table(("corrupt", "tenant", "last intact", "found", "size"), rows, numbers=("size",))
            remark("Restore corrupt originals from a backup, or accept their current contents with --accept.")
    return TASK_FAILED if corrupt else 0


def _coverage_rows(coverage: Coverage) -> Iterator[tuple[str, int, str, str]]:
    def row(what: str, amount: Amount) -> tuple[str, int, str, str]:
        share = amount.size_bytes / coverage.all.size_bytes if coverage.all.size_bytes else 0.0
        return what, amount.originals, size_in_words(amount.size_bytes), f"{share:.1%}"

    for days, amount in coverage.within.items():
        yield row(f"within {days} days", amount)
    yield row("longer ago", coverage.earlier)
    yield row("never", coverage.never)
    yield row("corrupt", coverage.corrupt)
    yield row("all originals", coverage.all)
