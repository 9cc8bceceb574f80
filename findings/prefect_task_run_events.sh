#!/usr/bin/env bash
# Prefect's server makes a task run out of events, if they carry a word that is written down nowhere.
#
# Guess: an event only says what happened; a task run is created and moved by `POST /task_runs/` and `set_state`, as a
#   flow run is.
# Behaviour: `POST /events` with `prefect.task-run.*` creates the task run and records the state: the id and the moment
#   of the event become those of the state. The order of arrival does not matter, the latest moment counts. Without
#   `prefect.orchestration: client` in its resource the event is kept, and records nothing.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/services/task_run_recorder.py
# Covered by: flows/orchestration/task_run_record.py; tests/flows/orchestration/test_task_run_contract.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

export PREFECT_HOME="$work" PREFECT_LOGGING_LEVEL=ERROR PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" - <<'TEST'
import time
from datetime import datetime, timedelta, timezone
from uuid import uuid4

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.testing.utilities import prefect_test_harness


@flow
def empty():
    return str(flow_run.id)


def event(flow_run_id, task_run_id, name, after_seconds, **resource):
    return {
        "id": str(uuid4()),
        "occurred": (datetime.now(timezone.utc) + timedelta(seconds=after_seconds)).isoformat(),
        "event": f"prefect.task-run.{name}",
        "resource": {"prefect.resource.id": f"prefect.task-run.{task_run_id}", **resource},
        "related": [{"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}],
        "payload": {
            "validated_state": {"type": name.upper(), "name": name},
            "task_run": {"name": "by hand", "task_key": "by-hand", "dynamic_key": str(task_run_id)},
        },
    }


with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
    run, silent, told = empty(), uuid4(), uuid4()
    client.request("POST", "/events", json=[event(run, silent, "Completed", 0)])
    # The last state comes first.
    word = {"prefect.orchestration": "client"}
    events = [event(run, told, "Completed", 1, **word), event(run, told, "Running", 0, **word)]
    client.request("POST", "/events", json=events)
    give_up_at = time.monotonic() + 90
    found = []
    while len(found) < 2:
        assert time.monotonic() < give_up_at, "nothing was recorded"
        time.sleep(0.2)
        found = client.request("GET", "/task_run_states/", params={"task_run_id": str(told)}).json()
    task_runs = client.read_task_runs()
    print("task runs that the server made:", [(one.name, one.state_name) for one in task_runs])
    print("its states have the ids of the events:", {one["id"] for one in found} == {one["id"] for one in events})
    assert [(one.id, one.name, one.state_name) for one in task_runs] == [(told, "by hand", "Completed")]
    assert {one["id"] for one in found} == {one["id"] for one in events}
TEST
