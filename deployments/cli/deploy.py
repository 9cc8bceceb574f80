"""`photojobs deploy`: have the workers of a Prefect work pool run definitions, on other machines too."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.run import check_named_server
from deployments.cli.terminal import print_table, remark, say
from storage.settings import Settings
from task_definitions import load_definitions

app = App(name="deploy")

Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@app.default
def deploy(
    *names: str,
    pool: str,
    create_pool: str | None = None,
    image: str | None = None,
    database_secret: str | None = None,
    dry_run: Flag = False,
) -> None:
    """Register definitions as deployments of a Prefect work pool, whose workers run them.

    They get the names, forms and schedules that `photojobs up` gives them, in the work queue `priority` where one of
    their steps has priority 90 or more, else in `normal`. Deployments of the pool whose definition is gone are paused.
    Example: `photojobs deploy --pool photos --create-pool process`.

    Parameters
    ----------
    names
        Definitions, or `drain_queue`; by default all of them.
    pool
        The work pool.
    create_pool
        Make the pool where it is missing, of this type: process, docker or kubernetes.
    image
        The image for a pool whose workers start containers. They get the PHOTOJOBS_ variables of this environment,
        without the database's URL.
    database_secret
        The name of a Prefect Secret block with the database's URL. Workers look it up for each run, so it is in no
        deployment; by default runs have the URL from their worker or their image.
    dry_run
        Only show what would be done.
    """
    from deployments.errors import NoPrefectServer
    from flows.prefect_requests import has_server

    check_named_server()
    if not has_server():
        raise NoPrefectServer("PREFECT_API_URL is not set; name in it the server that the workers ask for runs")
    from prefect.client.orchestration import get_client

    from deployments.deploy import DeploymentPlan, PoolChoice, carry_out, plan_deployments

    settings = Settings.load()
    definitions = load_definitions(settings.definitions)
    choice = PoolChoice(name=pool, create_type=create_pool, image=image, database_secret=database_secret)

    def show(plan: DeploymentPlan) -> None:
        if plan.creates_pool:
            say(f"work pool {pool} of type {plan.pool_type}: create")
        rows = [(each.path, each.action, each.queue, ", ".join(each.schedules)) for each in plan.deployments]
        print_table(("deployment", "action", "queue", "schedule"), rows)

    with get_client(sync_client=True) as client:
        plan = plan_deployments(client, definitions, settings, choice, names=names)
        if not dry_run:
            carry_out(client, plan)
    show(plan)
    if dry_run:
        remark("nothing was changed")
        return
    if image is not None and database_secret is None:
        remark("the deployments hold no database URL: give it to the image or the pool, or name a --database-secret")
    remark(f"a worker for it: prefect worker start --pool {pool} --type {plan.pool_type}")
