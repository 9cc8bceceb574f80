"""The names under which Prefect knows our deployments; callers of its API and our own code agree on them here."""

from __future__ import annotations

from task_definitions import TaskDefinition

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

#: The deployment that works off standalone jobs.
DRAIN_PATH = "drain_queue/Drain Queue"
