"""Calls Prefect's HTTP API as Prefect's pages and other programs do."""

from __future__ import annotations

import base64
import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.waiting import wait_until

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

_BUSY_SECONDS = 60.0
_AGAIN_SECONDS = 0.2


class _UntilItIsFree(httpx.HTTPTransport):
    """Repeats a request that a busy server refused, as Prefect's own client does.

    The server's SQLite database may be locked for a moment. The server then answers with status 503 and changes
    nothing.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        give_up_at = time.monotonic() + _BUSY_SECONDS
        while True:
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > give_up_at:
                return response
            response.close()
            time.sleep(_AGAIN_SECONDS)


def headers_of(url: str, password: str | None = None) -> dict[str, str]:
    """Return the headers that a server of ours requires: the password, and a token against forged requests."""
    password = password or os.environ.get("PREFECT_API_AUTH_STRING")
    if password is None:
        return {}
    client = str(uuid.uuid4())
    headers = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    token = httpx.get(f"{url}/csrf-token", params={"client": client}, headers=headers, timeout=60).raise_for_status()
    return headers | {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token.json()["token"]}


class PrefectApi(httpx.Client):
    """A client of the API; its methods raise if the server answers with an error.

    Args:
        url: the URL of the API, such as `http://127.0.0.1:4200/api`.
        timeout: how long an answer may take, in seconds.
        password: the password of the server; by default the password of this process.
    """

    def __init__(self, url: str, *, timeout: float = 30, password: str | None = None) -> None:
        super().__init__(base_url=url, timeout=timeout, transport=_UntilItIsFree(), headers=headers_of(url, password))

    def deployment(self, path: str) -> dict[str, Any]:
        """Return the deployment with this path, such as `maintenance_global/Global Maintenance`."""
        found: dict[str, Any] = self.get(f"/deployments/name/{path}").raise_for_status().json()
        return found

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Return all deployments by their names."""
        return {found["name"]: found for found in self.find("deployments")}

    def press_run(self, deployment: dict[str, Any], **parameters: Any) -> str:
        """Start a flow run of a deployment, as the button Run does; return its id, which is also the id of the task."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        pressed = self.post(f"/deployments/{deployment['id']}/create_flow_run", json=body)
        return str(pressed.raise_for_status().json()["id"])

    def flow_run(self, flow_run_id: object) -> dict[str, Any]:
        """Return a flow run with its state."""
        found: dict[str, Any] = self.get(f"/flow_runs/{flow_run_id}").raise_for_status().json()
        return found

    def state(self, flow_run_id: object) -> str:
        """Return the type of a flow run's state, such as COMPLETED."""
        return str(self.flow_run(flow_run_id)["state"]["type"])

    def set_state(self, flow_run_id: object, state: str, *, force: bool = False) -> None:
        """Set the state of a flow run to a type, such as CANCELLING."""
        body = {"state": {"type": state, "name": state.title()}, "force": force}
        self.post(f"/flow_runs/{flow_run_id}/set_state", json=body).raise_for_status()

    def suspend(self, flow_run_id: object, *, seconds: float = 300) -> None:
        """Suspend a flow run, as the menu entry Pause of its page does."""
        until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        state = {
            "type": "PAUSED",
            "name": "Suspended",
            "state_details": {"pause_timeout": until, "pause_reschedule": True},
        }
        self.post(f"/flow_runs/{flow_run_id}/set_state", json={"state": state, "force": True}).raise_for_status()

    def resume(self, flow_run_id: object) -> None:
        """Resume a flow run, as its page does."""
        self.post(f"/flow_runs/{flow_run_id}/resume", json={}).raise_for_status()

    def task_runs(self, flow_run_id: object) -> dict[str, dict[str, Any]]:
        """Return the task runs of a flow run by their names, in the order in which they began."""
        of_run = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return {found["name"]: found for found in self.find("task_runs", of_run)}

    def ended_task_runs(self, flow_run_id: object, count: int) -> dict[str, dict[str, Any]]:
        """Wait until the server shows this many ended task runs of a flow run; return them by their names.

        The server stores task runs and states some time after it has received them, and stores a run before its state.
        """

        def ended() -> dict[str, dict[str, Any]] | None:
            runs = self.task_runs(flow_run_id)
            are_final = all(run["state"] and run["state"]["type"] in FINAL for run in runs.values())
            return runs if len(runs) == count and are_final else None

        return wait_until(ended, what=lambda: f"{count} task runs have ended: {self.task_runs(flow_run_id)}")

    def artifacts(self, flow_run_id: object) -> list[dict[str, Any]]:
        """Return the artifacts of a flow run."""
        return self.find("artifacts", {"artifacts": {"flow_run_id": {"any_": [str(flow_run_id)]}}})

    def find(self, what: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the objects that match a filter; `what` is their kind, such as `flow_runs` or `deployments`."""
        found: list[dict[str, Any]] = self.post(f"/{what}/filter", json=body or {}).raise_for_status().json()
        return found
