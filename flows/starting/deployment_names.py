"""The names of deployments, flow runs and task runs of photojobs in Prefect. Callers of Prefect's API depend on them.

`deployments.serving.scheduled_run_names` names runs of a schedule that are not due yet.
"""

import re
from collections.abc import Mapping
from typing import Any

from storage.default_tenant import DEFAULT_TENANT
from storage.queue.lanes import lane_name
from storage.records import Job
from task_definitions import TaskDefinition

#: The tag that every deployment of photojobs has in Prefect, and no other deployment.
TAG = "photojobs"

#: The tag of a deployment that photojobs paused because its definition is missing.
MISSING_TAG = "definition-missing"

#: Characters that Prefect does not allow in names, and those that would end the path of a URL: Prefect's client writes
#: names into URLs unquoted, so it would ask for another deployment.
_BANNED = str.maketrans(dict.fromkeys("/%&<>#?", "-"))


def deployment_name(definition: TaskDefinition) -> str:
    """Return the name of a definition's deployment: its label, with `-` for characters that are not allowed there."""
    # A URL loses the names `.` and `..`, and Prefect cuts off `.py`.
    return re.sub(r"^\.\.?$|\.py$", lambda found: found[0].replace(".", "-"), definition.label.translate(_BANNED))


def deployment_path(definition: TaskDefinition) -> str:
    """Return the path by which Prefect's API addresses a definition's deployment: `<flow>/<deployment>`."""
    return f"{definition.name}/{deployment_name(definition)}"


#: The `source` of runs that a schedule starts. Such a run is skipped while a task of the same definition, tenant and
#: project is unfinished.
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


def task_run_position(job: Job) -> str:
    """Return the second part of the name of a job's task run, as in `manifest_check 3/40`: the job's chunk.

    For a standalone job, it is `#` and the job's id.
    """
    return f"#{job.id}" if job.task_id is None else f"{(job.chunk_index or 0) + 1}/{job.total_chunks or 1}"


def task_run_tags(job: Job) -> list[str]:
    """Return the tags of a job's task run: its priority, lane, tenant and, if it has one, its task."""
    tags = [f"priority:{job.priority}", f"lane:{lane_name(job.priority)}", f"tenant:{job.tenant_id}"]
    return tags if job.task_id is None else [*tags, f"task:{job.task_id}"]
