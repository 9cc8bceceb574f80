"""The names of our deployments and flow runs in Prefect. Callers of Prefect's API depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.lifecycle.step_jobs import DEFAULT_TENANT
from task_definitions import TaskDefinition

#: Every deployment of ours has this tag; no other deployment has it.
TAG = "photojobs"

#: Characters that Prefect does not allow in names.
_BANNED = str.maketrans({"/": "-", "%": "-", "&": "-", "<": "-", ">": "-"})


def deployment_name(definition: TaskDefinition) -> str:
    """The name of a definition's deployment: its label."""
    return definition.label.translate(_BANNED)


def deployment_path(definition: TaskDefinition) -> str:
    """The deployment as Prefect's API addresses it: `<flow>/<deployment>`."""
    return f"{definition.name}/{deployment_name(definition)}"


#: The `source` of runs that a schedule starts. Such a run is skipped while an earlier one of its kind is unfinished.
SCHEDULE_SOURCE = "schedule"

#: The module that has every flow of ours under its name, for Prefect to load.
CATALOG = "flows.catalog"

#: The flow that runs standalone jobs, and its deployment.
DRAIN = "drain_queue"
DRAIN_PATH = f"{DRAIN}/Drain Queue"


def flow_run_name(flow_name: str, parameters: Mapping[str, Any]) -> str:
    """The name of a flow run: its definition, tenant and project, and `plan of` if it only plans."""
    where = [str(parameters.get("tenant_id") or DEFAULT_TENANT)]
    if project := parameters.get("project_id"):
        where.append(f"project {project}" if isinstance(project, int) else str(project))
    return f"{'plan of ' if parameters.get('plan') else ''}{flow_name} ({', '.join(where)})"
