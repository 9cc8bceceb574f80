#!/usr/bin/env bash
# Prefect's `wait` raises Pause for futures that have ended, if a user has suspended the flow run meanwhile.
#
# Guess: `prefect.futures.wait` returns when the futures have ended; a flow learns of a suspension only between task runs,
#   so cleaning up after the last future always runs.
# Behaviour: in a run of a deployment, `wait` raises the BaseException `prefect.exceptions.Pause`, even for an empty list.
#   A flow that must do something before it is suspended has to catch it; `except Exception` does not.
# Versions: prefect 3.9.1
# Date: 2026-11-29
# Source: prefect/futures.py, wait; prefect/_flow_run_suspension.py
# Covered by: flows/orchestration/task_flow.py, follow_task; tests/flows/orchestration/test_prefect_cancellation.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

cat > "$work/suspended.py" <<'TEST'
import sys
import time
from pathlib import Path

from prefect import flow, suspend_flow_run, task
from prefect.futures import wait
from prefect.runtime import flow_run

seen = Path(__file__).with_name("seen")


@task
def tick() -> None: ...


@flow
def paused_from_outside() -> None:
    if seen.exists():
        return
    futures = [tick.submit()]
    wait(futures)
    suspend_flow_run(flow_run_id=flow_run.id, timeout=600)
    try:
        # The process learns of its suspension within ten seconds.
        for _ in range(300):
            wait([])
            time.sleep(0.1)
        seen.write_text("wait returned each time")
    except Exception as error:
        seen.write_text(f"an Exception: {error!r}")
    except BaseException as error:
        seen.write_text(f"{type(error).__name__}, which is no Exception")
        raise


if __name__ == "__main__":
    paused_from_outside.serve(name="paused", limit=1)
TEST

cat > "$work/press_run.py" <<'TEST'
import time
from pathlib import Path

from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

for _ in range(300):
    try:
        run_deployment("paused-from-outside/paused", timeout=0)
        break
    except ObjectNotFound:
        time.sleep(0.2)
seen = Path(__file__).with_name("seen")
for _ in range(600):
    if seen.exists():
        break
    time.sleep(0.2)
print("a suspended run that calls wait([]) gets:", seen.read_text())
assert seen.read_text() == "Pause, which is no Exception"
TEST

port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME=$work/home PREFECT_API_URL=http://127.0.0.1:$port/api PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" -m prefect server start --host 127.0.0.1 --port "$port" > "$work/server.log" 2>&1 &
server=$!
until "$work/venv/bin/python" -c "import urllib.request as r; r.urlopen('$PREFECT_API_URL/health')" 2>/dev/null; do sleep 0.5; done
"$work/venv/bin/python" "$work/suspended.py" > "$work/runner.log" 2>&1 &
runner=$!
found=0
"$work/venv/bin/python" "$work/press_run.py" || found=$?
kill -INT $runner $server
wait $runner $server || true
exit $found
