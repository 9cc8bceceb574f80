"""Asking Prefect's server for a flow run of a task that stands in the database. Best effort: nothing depends on it."""

from __future__ import annotations

import logging
import os
from typing import Any

from flows.deployment_names import DRAIN_PATH, deployment_path
from storage.pinned_definition import PinnedDefinition
from storage.records import Task

logger = logging.getLogger("photojobs.requests")


def request_flow_run(task: Task) -> str | None:
    """Ask for a flow run that follows the task; returns its id, or None where there is no server or it did not answer.

    Asked twice, it is the same flow run: its idempotency key is the task's id.
    """
    parameters: dict[str, Any] = {"task_id": task.id, "tenant_id": task.tenant_id, "source": task.source}
    if task.project_id is not None:
        parameters["project_id"] = task.project_id
    definition = PinnedDefinition.from_json(task.definition_json).definition
    return _request(deployment_path(definition), parameters, idempotency_key=task.id)


def request_drain() -> str | None:
    """Ask for a flow run that works off standalone jobs; returns its id, or None as in `request_flow_run`."""
    return _request(DRAIN_PATH, {}, idempotency_key=None)


def has_server() -> bool:
    """Whether this process knows of a Prefect server; without one, asking would start a server of its own."""
    if "PREFECT_API_URL" in os.environ:
        return True
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _request(path: str, parameters: dict[str, Any], *, idempotency_key: str | None) -> str | None:
    if not has_server():
        return None
    from prefect.deployments import run_deployment

    try:
        run: Any = run_deployment(
            path, parameters=parameters, timeout=0, idempotency_key=idempotency_key, as_subflow=False
        )
    except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from answering, the work is in the database.
        logger.warning("Prefect did not take a run of %s (%s); `photojobs up` or a worker will", path, error)
        return None
    return str(run.id)
