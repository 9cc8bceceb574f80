"""Asks Prefect's server for flow runs. A failed request does no harm, because other processes also run stored tasks.

`deployments.serving.flow_run_recovery` asks again for tasks that no process runs.
"""

import logging
import os
import threading
import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.process.retry_delay import backoff_seconds
from flows.starting.deployment_names import DRAIN_PATH, MISSING_TAG, TAG, deployment_path
from flows.starting.prefect_client import impatient_client, may_pass
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.records import Task

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

logger = logging.getLogger("photojobs.requests")

#: How long a request is repeated while the server is slow or its database is locked.
ASK_SECONDS = 30.0

#: How long one request waits for its answer.
ANSWER_SECONDS = 10.0


def request_flow_run(task: Task) -> str | None:
    """Ask for a flow run that follows the task. The call begins no new attempt after `ASK_SECONDS`.

    The idempotency key is the task's id. Repeated requests, also of other processes, return the same flow run until it
    has ended. For a retried task, the key is the task's id and the id of its last flow run.

    Returns:
        The id of the flow run; None if no server is configured, or if the server started no flow run.
    """
    parameters: dict[str, Any] = {"task_id": task.id, "tenant_id": task.tenant_id, "source": task.source}
    if task.project_id is not None:
        parameters["project_id"] = task.project_id
    definition = PinnedDefinition.from_json(task.definition_json).definition
    return _request(deployment_path(definition), parameters, idempotency_key=task.id, work=f"task {task.id}")


def request_drain() -> str | None:
    """Ask for a flow run that runs standalone jobs. Return what `request_flow_run` returns."""
    return _request(DRAIN_PATH, {}, idempotency_key=str(uuid.uuid4()), work="the standalone jobs")


def has_server() -> bool:
    """Return whether a Prefect server is configured. Without one, Prefect's client would start a server."""
    if "PREFECT_API_URL" in os.environ:
        return bool(os.environ["PREFECT_API_URL"])
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _request(path: str, parameters: dict[str, Any], *, idempotency_key: str, work: str) -> str | None:
    if not has_server():
        return None
    give_up_at = time.monotonic() + ASK_SECONDS
    unanswered: set[str] = set()
    failures = 0
    while True:
        try:
            return _ask(path, parameters, idempotency_key=idempotency_key, unanswered=unanswered)
        except Exception as error:  # noqa: BLE001 - whatever the reason, the task is stored and will run.
            failures += 1
            wait_seconds = backoff_seconds(failures, first_seconds=0.25, longest_seconds=5.0)
            if not _is_there(error) or not may_pass(error) or time.monotonic() + wait_seconds > give_up_at:
                _warn_once(path, work, _reason_of(error))
                return None
            problem = "Prefect started no run of %s for %s (%s); asking again in %.1f seconds"
            logger.info(problem, path, work, error, wait_seconds)
            threading.Event().wait(wait_seconds)


def _ask(path: str, parameters: dict[str, Any], *, idempotency_key: str, unanswered: set[str]) -> str:
    from prefect.states import Scheduled

    with impatient_client(answer_seconds=ANSWER_SECONDS) as client:
        deployment = _deployment_at(client, path)
        key = idempotency_key
        while True:
            is_repeated = key in unanswered
            unanswered.add(key)
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, state=Scheduled(), idempotency_key=key
            )
            unanswered.discard(key)
            # Prefect may return a flow run that has ended or is being canceled. It belongs to an earlier run of the
            # task, unless an earlier request of this call created it and the answer was lost. A flow run of another
            # deployment cannot start, because that deployment was deleted or its definition is missing. In both cases,
            # the next request has another key, so that Prefect creates a new flow run.
            is_open = run.state is None or not (run.state.is_final() or run.state.is_cancelling())
            if is_repeated or (is_open and run.deployment_id == deployment.id):
                return str(run.id)
            key = f"{idempotency_key}:{run.id}"


@lru_cache(maxsize=1_000)
def _warn_once(path: str, work: str, reason: str) -> None:
    # The cache keeps `photojobs up`, which asks again and again, from filling its log.
    logger.warning(
        "Prefect started no run of %s for %s (%s); `photojobs up` or a worker runs %s", path, work, reason, work
    )


def _reason_of(error: Exception) -> str:
    from prefect.exceptions import ObjectNotFound

    return "it has no such deployment" if isinstance(error, ObjectNotFound) else str(error)


def _deployment_at(client: "SyncPrefectClient", path: str) -> "DeploymentResponse":
    """Return the deployment at this path.

    If the label was changed, the result is the deployment of the same flow with another label.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowFilter, FlowFilterName
    from prefect.exceptions import ObjectNotFound

    try:
        named = client.read_deployment_by_name(path)
    except ObjectNotFound:
        named = None
    if named is not None and MISSING_TAG not in named.tags:
        return named
    of_flow = FlowFilter(name=FlowFilterName(any_=[path.partition("/")[0]]))
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    for deployment in client.read_deployments(flow_filter=of_flow, deployment_filter=ours):
        if MISSING_TAG not in deployment.tags:
            return deployment
    # A flow run of the paused deployment waits until the definition is back.
    return named if named is not None else client.read_deployment_by_name(path)


def _is_there(error: Exception) -> bool:
    import httpx

    return not isinstance(error, httpx.ConnectError)
