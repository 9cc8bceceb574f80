"""Counts failed clicks on Submit, of 300, on a busy server: the embedded server compared with plain `prefect server`.

Meanwhile, four processes keep the processors busy, and four clients create flow runs, states, logs and artifacts, as
flow runs do. A click is the request that Prefect's page sends, sent once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command

BURNERS, CLIENTS = 4, 4


def run(options: Options) -> Report:
    """Measure both servers, one after the other."""
    presses = options.size(300, 5)
    with temporary_folder() as folder:
        plain_failures, plain_slowest = _press(_plain_server(folder / "plain"), presses)
        our_failures, our_slowest = _press(_our_server(folder / "ours"), presses)
    report = Report(
        "presses under load",
        notes=[
            f"{presses} presses, {BURNERS} busy processes, {CLIENTS} clients",
            f"failed presses: ours {our_failures}, plain `prefect server` {plain_failures}; target 0",
        ],
    )
    report.ratios.append(
        Ratio(
            what="slowest press",
            unit="s",
            ours=[our_slowest],
            others=[plain_slowest],
            against="plain `prefect server`",
        )
    )
    return report


def _press(server: Any, presses: int) -> tuple[int, float]:
    failures, slowest = 0, 0.0
    with ExitStack() as stack:
        url = stack.enter_context(server)
        api = stack.enter_context(httpx.Client(base_url=url, timeout=120))
        flow_id = _made(api, "/flows/", {"name": "pressed"})
        body = {"name": "pressed", "flow_id": flow_id, "enforce_parameter_schema": False}
        deployment_id = _made(api, "/deployments/", body)
        stack.enter_context(_busy_processors())
        stack.enter_context(_busy_clients(url, flow_id))
        for _ in range(presses):
            began = time.monotonic()
            # Each click opens a new connection, as a browser does, because the server closes idle connections.
            answer = httpx.post(
                f"{url}/deployments/{deployment_id}/create_flow_run", json={"state": {"type": "SCHEDULED"}}, timeout=120
            )
            slowest = max(slowest, time.monotonic() - began)
            if not answer.is_success:
                failures += 1
    return failures, slowest


def _made(api: httpx.Client, path: str, body: dict[str, Any]) -> str:
    # A plain server that has just started may refuse these requests too.
    while (answer := api.post(path, json=body)).status_code == 503:
        time.sleep(0.2)
    return str(answer.raise_for_status().json()["id"])


@contextmanager
def _our_server(home: Path) -> Iterator[str]:
    from deployments.server.prefect_server import embedded_server

    with embedded_server(home) as url:
        yield url


@contextmanager
def _plain_server(home: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home.mkdir(parents=True)
    url = f"http://127.0.0.1:{port}/api"
    environment = {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            env=os.environ | environment | {"PREFECT_LOGGING_LEVEL": "WARNING"},
            stdout=log,
            stderr=log,
        )
        try:
            while True:
                assert process.poll() is None, (home / "server.log").read_text()
                try:
                    if httpx.get(f"{url}/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _busy_processors() -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BURNERS)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _busy_clients(url: str, flow_id: str) -> Iterator[None]:
    stopped = threading.Event()
    threads = [threading.Thread(target=_be_busy, args=(url, flow_id, stopped)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _be_busy(url: str, flow_id: str, stopped: threading.Event) -> None:
    while not stopped.is_set():
        # Refused requests of these clients are not counted, because a flow run would repeat them.
        with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=120) as api:
            made = api.post("/flow_runs/", json={"flow_id": flow_id, "state": {"type": "PENDING"}})
            if not made.is_success:
                continue
            run_id = made.json()["id"]
            for state in ("RUNNING", "COMPLETED"):
                api.post(f"/flow_runs/{run_id}/set_state", json={"state": {"type": state}})
            line = {"name": "busy", "level": 20, "message": "at work", "timestamp": "2026-01-01T00:00:00Z"}
            api.post("/logs/", json=[line | {"flow_run_id": run_id}] * 20)
            api.post("/artifacts/", json={"key": "busy", "type": "markdown", "data": "at work", "flow_run_id": run_id})
            api.post("/work_queues/filter", json={})


if __name__ == "__main__":
    command(run)
