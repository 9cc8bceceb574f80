#!/usr/bin/env bash
# A synchronous Prefect flow run takes at least a second, and ends up to a second late; no variable switches that off.
#
# Guess: heartbeats are sent beside the flow, every three minutes by default, and cost a short run nothing. The setting is
#     `Optional[int]`, so an empty PREFECT_FLOWS_HEARTBEAT_FREQUENCY, `null` or 0 switches them off.
# Behaviour: the thread that sends them looks once a second whether the flow has ended, and the engine waits for the thread. A flow
#     of 0.2 seconds waits about 0.8 more, and so does one of 1.2 seconds. Asynchronous flows do not wait. Each value of the
#     variable below 30, and each that is no number, is an error; only `temporary_settings` in the program sets None.
# Versions: prefect 3.9.1
# Date: 2026-11-29
# Source: prefect/flow_engine.py, _send_heartbeats; prefect/settings/models/flows.py, heartbeat_frequency
# Covered by: tests/conftest.py, `quick_flow_runs`, and benchmarks/flow_overhead.py, which measure and test without heartbeats
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

export PREFECT_HOME="$work" PREFECT_LOGGING_LEVEL=CRITICAL PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" - <<'TEST'
import threading
import time

from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

waits = []
join = threading.Thread.join


def timed(thread, timeout=None):
    begin = time.monotonic()
    join(thread, timeout)
    if timeout is not None and threading.current_thread() is threading.main_thread():
        waits.append(time.monotonic() - begin)


threading.Thread.join = timed


@flow
def sleeping(seconds: float):
    time.sleep(seconds)


def seconds_of_waiting(seconds):
    """How long the main thread waits for other threads within a run: the longest of four runs."""
    found = []
    for _ in range(4):
        waits.clear()
        sleeping(seconds)
        found.append(sum(waits))
    return max(found)


with prefect_test_harness(server_startup_timeout=200):
    for seconds in (0.2, 1.2):
        waited = seconds_of_waiting(seconds)
        print(f"a flow of {seconds} seconds waits for the thread of heartbeats: {waited:.2f} seconds")
        assert waited > 0.3
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        waited = seconds_of_waiting(0.2)
        print(f"without heartbeats: {waited:.2f} seconds")
        assert waited < 0.3
TEST
echo "from prefect.settings import get_current_settings; get_current_settings()" >"$work/settings.py"
for value in "" null 0 10; do
    if error=$(PREFECT_FLOWS_HEARTBEAT_FREQUENCY="$value" "$work/venv/bin/python" "$work/settings.py" 2>&1); then
        echo "the value '$value' is taken"
        exit 1
    fi
    echo "the value '$value': $(grep -o 'Input should be [^[]*' <<<"$error" | head -1)"
done
