#!/usr/bin/env bash
# Prefect 3.9.1 calls no on_cancellation hook for a flow run that is canceled while it waits for a runner.
#
# Guess: `cancelling` a flow run calls its flow's on_cancellation hooks, whatever it does at the moment; a runner that has no
#   place for the run (`limit`) or has not yet asked for it finds it in the state Cancelling and ends it.
# Behaviour: the server puts a run that has no process from Scheduled into Cancelled at once, in place of Cancelling. No
#   runner sees it, and no hook is called. What the hook was to clean up stays.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/orchestration/core_policy.py, BypassCancellingFlowRunsWithNoInfra; prefect/runner/runner.py, whose
#   observer only knows the flow runs of its own processes
# Covered by: deployments/serving/canceled_runs.py, `end_canceled_runs`; tests/deployments/serving/test_runs_left_behind.py
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/env"
"$work/env/bin/pip" install -q prefect==3.9.1 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME="$work/home" PREFECT_API_URL="http://127.0.0.1:$port/api" PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/env/bin/prefect" server start --host 127.0.0.1 --port "$port" > "$work/server.log" 2>&1 &
server=$!

cat > "$work/canceled.py" <<'PYTHON'
import asyncio
import os
import time
from pathlib import Path

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.states import Cancelling

called = Path(os.environ["WORK"], "called")


def note(flow, flow_run, state) -> None:
    with called.open("a") as file:
        file.write(f"{flow_run.name}\n")


@flow(on_cancellation=[note])
def any_flow() -> None:
    time.sleep(120)


def wait_until(what, condition) -> None:
    give_up_at = time.monotonic() + 120
    while not condition():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not within 120 s: {what}")
        time.sleep(0.3)


def is_up() -> bool:
    try:
        return httpx.get(f"{os.environ['PREFECT_API_URL']}/health").status_code == 200
    except httpx.TransportError:
        return False


async def main() -> int:
    await asyncio.to_thread(wait_until, "the server answers", is_up)
    runner = Runner(name="one-at-a-time", limit=1, query_seconds=0.5)
    deployment_id = await runner.aadd_flow(any_flow, name="any")
    with get_client(sync_client=True) as client:
        running = client.create_flow_run_from_deployment(deployment_id, name="running")
        served = asyncio.create_task(runner.start())

        def state(run) -> str:
            return client.read_flow_run(run.id).state.name

        await asyncio.to_thread(wait_until, "the first run is on", lambda: state(running) == "Running")
        waiting = client.create_flow_run_from_deployment(deployment_id, name="waiting")
        seen = {}
        for run in (waiting, running):
            client.set_flow_run_state(run.id, Cancelling())
            seen[run.name] = state(run)
        await asyncio.to_thread(wait_until, "the hook of the run is called", called.exists)
        await asyncio.sleep(3)
        await runner.astop()
        await asyncio.gather(served, return_exceptions=True)
    hooks = called.read_text().split()
    print(f"at once after Cancelling was asked for: {seen}; hooks were called for {hooks}")
    return 0 if seen == {"waiting": "Cancelled", "running": "Cancelling"} and hooks == ["running"] else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
PYTHON
WORK="$work" "$work/env/bin/python" "$work/canceled.py"
