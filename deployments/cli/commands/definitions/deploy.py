"""`photojobs deploy`: deploy definitions to a Prefect work pool, whose workers can run on other machines.

`deployments.deploying.deploy` decides which definitions get a deployment.
"""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from deployments.cli.options.named_server import named_server_client
from deployments.cli.options.parameters import Flag, Json, refuse_beside
from deployments.cli.output.terminal import print_json, print_table, remark, say, write_file
from storage.settings import Settings
from task_definitions import Definitions, load_definitions

app = App(name="deploy")


@app.default
def deploy(
    *names: str,
    pool: str,
    create_pool: str | None = None,
    image: str | None = None,
    database_secret: str | None = None,
    dry_run: Flag = False,
    write_prefect_yaml: Path | None = None,
    json: Json = False,
) -> None:
    """Deploy definitions to a Prefect work pool, whose workers run them.

    Definitions are registered as deployments of the pool. They get the same names, forms and schedules as with
    `photojobs up`. The work queue is `priority` if one of the steps has priority 90 or more, else `normal`.
    Without NAMES, deployments of the pool whose definition no longer exists are paused.

    Args:
        names: The definitions to deploy, or `drain_queue` for the deployment that runs standalone jobs; by default all.
        pool: The work pool.
        create_pool: Create the pool with this type if it is missing: process, docker or kubernetes.
        image: The container image, for a pool whose workers start containers. The containers get the PHOTOJOBS_
            variables of this environment, except PHOTOJOBS_DATABASE_URL and PHOTOJOBS_CONFIG.
        database_secret: The name of a Prefect Secret block with the database's URL. Workers read the block for each
            run, so no deployment contains the URL. By default, runs get the URL from their worker or their image.
        dry_run: Only show what would be done.
        write_prefect_yaml: Only write the deployments to this file, for `prefect deploy --all`; deploy nothing.
    """
    settings = Settings.load()
    definitions = load_definitions(settings.definitions)
    if write_prefect_yaml is not None:
        others = {"--create-pool": create_pool, "--image": image, "--database-secret": database_secret}
        refuse_beside("--write-prefect-yaml", {**others, "--dry-run": dry_run, "--json": json})
        _write_prefect_yaml(write_prefect_yaml, definitions, settings, pool, names)
        return
    with named_server_client() as client:
        from deployments.deploying.deploy import PoolChoice, carry_out, plan_deployments

        choice = PoolChoice(name=pool, create_type=create_pool, image=image, database_secret=database_secret)
        plan = plan_deployments(client, definitions, settings, choice, names=names)
        if not dry_run:
            carry_out(client, plan)
    if json:
        print_json({"is_dry_run": dry_run, "plan": plan})
        return
    if plan.creates_pool:
        say(f"work pool {pool} of type {plan.pool_type}: create")
    rows = [(each.path, each.action, each.queue, ", ".join(each.schedules)) for each in plan.deployments]
    print_table(("deployment", "action", "queue", "schedule"), rows)
    if dry_run:
        remark("nothing was changed")
        return
    if image is not None and database_secret is None:
        remark(
            "the deployments contain no database URL: set PHOTOJOBS_DATABASE_URL in the image or in the work pool, or "
            "use --database-secret"
        )
    remark(f"to start a worker: prefect worker start --pool {pool} --type {plan.pool_type}")


def _write_prefect_yaml(
    file: Path, definitions: Definitions, settings: Settings, pool: str, names: tuple[str, ...]
) -> None:
    from deployments.deploying.prefect_yaml import render_prefect_yaml
    from flows.starting.deployment_names import DRAIN

    # `render_prefect_yaml` always adds Drain Queue, the deployment for standalone jobs.
    chosen = [definitions.get_or_raise(name) for name in names if name != DRAIN] if names else definitions.values()
    write_file(file, render_prefect_yaml(chosen, settings, pool=pool))
    remark(f"{file}: written")
