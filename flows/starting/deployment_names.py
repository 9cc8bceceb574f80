"""The names of the deployments and flow runs of photojobs in Prefect. Callers of Prefect's API depend on them.

`deployments.serving.scheduled_run_names` names runs of a schedule that are not due yet.
"""

from collections.abc import Mapping
from typing import Any

from storage.default_tenant import DEFAULT_TENANT
from task_definitions import TaskDefinition

#: The tag that every deployment of photojobs has in Prefect, and no other deployment.
TAG = "photojobs"

#: The tag of a deployment that photojobs paused because its definition is missing.
MISSING_TAG = "definition-missing"

#: Characters that Prefect does not allow in names.
_BANNED = str.maketrans({"/": "-", "%": "-", "&": "-", "<": "-", ">": "-"})


def deployment_name(definition: TaskDefinition) -> str:
    """Return the name of a definition's deployment, which is the label of the definition."""
    return definition.label.translate(_BANNED)


def deployment_path(definition: TaskDefinition) -> str:
    """Return the path by which Prefect's API addresses a definition's deployment: `<flow>/<deployment>`."""
    return f"{definition.name}/{deployment_name(definition)}"


#: The `source` of runs that a schedule starts. Such a run is skipped while an earlier run of the same definition is
#: unfinished.
SCHEDULE_SOURCE = "schedule"

#: The module from which Prefect loads every flow of photojobs by name.
CATALOG = "flows.catalog"

#: The name of the flow that runs standalone jobs. `DRAIN_PATH` addresses its deployment.
DRAIN = "drain_queue"
DRAIN_PATH = f"{DRAIN}/Drain Queue"


def flow_run_name(flow_name: str, parameters: Mapping[str, Any]) -> str:
    """Return the name of a flow run: definition, tenant and project, after `plan of` if the run only makes a plan."""
    where = [str(parameters.get("tenant_id") or DEFAULT_TENANT)]
    if project := parameters.get("project_id"):
        where.append(f"project {project}" if isinstance(project, int) else str(project))
    return f"{'plan of ' if parameters.get('plan') else ''}{flow_name} ({', '.join(where)})"
