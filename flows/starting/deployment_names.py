"""The names under which Prefect knows our deployments and flow runs; callers of its API and our code agree on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.lifecycle.step_jobs import DEFAULT_TENANT
from task_definitions import TaskDefinition

#: Every deployment of ours has this tag, and no other.
TAG = "photojobs"

#: Characters that Prefect does not allow in names.
_BANNED = str.maketrans({"/": "-", "%": "-", "&": "-", "<": "-", ">": "-"})


def deployment_name(definition: TaskDefinition) -> str:
    """The name of a definition's deployment: its label."""
    return definition.label.translate(_BANNED)


def deployment_path(definition: TaskDefinition) -> str:
    """The deployment as Prefect's API addresses it: `<flow>/<deployment>`."""
    return f"{definition.name}/{deployment_name(definition)}"


#: The `source` of runs that a schedule starts; they are skipped while an earlier one of their kind is unfinished.
SCHEDULE_SOURCE = "schedule"

#: The module in which Prefect finds every flow of ours by its name.
CATALOG = "flows.catalog"

#: The flow that works off standalone jobs, and its deployment.
DRAIN = "drain_queue"
DRAIN_PATH = f"{DRAIN}/Drain Queue"


def flow_run_name(flow_name: str, parameters: Mapping[str, Any]) -> str:
    """What a flow run is called: its definition, whose photos, which project, and whether it is only a plan."""
    where = [str(parameters.get("tenant_id") or DEFAULT_TENANT)]
    if project := parameters.get("project_id"):
        where.append(f"project {project}" if isinstance(project, int) else str(project))
    return f"{'plan of ' if parameters.get('plan') else ''}{flow_name} ({', '.join(where)})"
