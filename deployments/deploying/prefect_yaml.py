"""Writes `prefect.yaml`: the deployments as a declaration, for users of Prefect's own command.

`deployments.deploying.runner_deployments` decides what a deployment contains.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from prefect.deployments.runner import RunnerDeployment
from prefect.utilities.templating import find_placeholders

from deployments.deploying.prefect_deploy_step import STEP
from deployments.deploying.runner_deployments import deployment_of, drain_deployment
from deployments.errors import TextIsTemplate
from storage.settings import Settings
from task_definitions import TaskDefinition

_HEADER = """\
# For `prefect deploy --all`, run where photojobs is installed and the work pool exists.
# Written by `photojobs deploy --pool {pool} --write-prefect-yaml prefect.yaml`; write it again after a change of
# definitions. `photojobs deploy` also pauses deployments of removed definitions, and sets up the work queues.

# The code is the installed package, so there is nothing to pull.
pull: []

# This step keeps what users changed in Prefect's pages: paused deployments, and inactive and added schedules.
build:
- {step}: {{}}

"""


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a YAML block."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def render_prefect_yaml(definitions: Iterable[TaskDefinition], settings: Settings, *, pool: str) -> str:
    """Return the text of a `prefect.yaml` with a deployment for each definition, and one for standalone jobs.

    Raises:
        TextIsTemplate: a text has double braces, which `prefect deploy` would fill in or delete.
    """
    deployments = [deployment_of(definition, settings, work_pool=pool) for definition in definitions]
    deployments.append(drain_deployment(work_pool=pool))
    document = {"deployments": [_entry(deployment, pool) for deployment in deployments]}
    return _HEADER.format(pool=pool, step=STEP) + yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110
    )


def _entry(deployment: RunnerDeployment, pool: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": deployment.name,
        # The text ends with the definition as YAML, which `photojobs definitions diff` reads.
        "description": deployment.description,
        "entrypoint": deployment.entrypoint,
        "tags": list(deployment.tags or []),
        "work_pool": {"name": pool, "work_queue_name": deployment.work_queue_name},
    }
    if deployment.schedules:
        entry["schedules"] = [
            {**_times(each.schedule), "parameters": each.parameters, "slug": each.slug} for each in deployment.schedules
        ]
    # Prefect has no way to escape a placeholder.
    for placeholder in find_placeholders(entry):
        raise TextIsTemplate(
            f'{deployment.flow_name}: "prefect deploy" would take {placeholder.full_match} for a template. Use '
            "`photojobs deploy` without --write-prefect-yaml, or change the text of the definition, or the tenant's id."
        )
    return entry


def _times(schedule: Any) -> dict[str, Any]:
    cron = getattr(schedule, "cron", None)
    if cron is not None:
        return {"cron": cron, "timezone": schedule.timezone}
    return {
        "interval": schedule.interval.total_seconds(),
        "anchor_date": schedule.anchor_date.isoformat(),
        "timezone": schedule.timezone,
    }
