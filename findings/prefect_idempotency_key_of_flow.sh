#!/usr/bin/env bash
# A request for a run of one Prefect deployment returns a run of another one, or one that was canceled, if its key was used before.
#
# Guess: the idempotency key of `POST /deployments/{id}/create_flow_run` keeps a repeated request from starting a second run. It
#     belongs to the deployment in the path; with other parameters it is an error, as with payment services; and once the run
#     has ended or was canceled, the key starts a new one.
# Behaviour: the key belongs to the flow, that is to the flow's name. A second deployment of the flow, such as one for another
#     machine, gets the first one's run as the answer, of another deployment id and with other parameters, and starts nothing.
#     The key is taken for as long as the run is kept, also if it was canceled before it began. Only the status differs: 200,
#     and not 201, which the client does not return.
# Versions: prefect 3.9.1
# Date: 2026-11-29
# Source: prefect/server/models/flow_runs.py, create_flow_run; the index uq_flow_run__flow_id_idempotency_key
# Covered by: flows/starting/prefect_requests.py, `_ask`: the key is the id of a task, and if the run that it returns has ended,
#     another key is made of both ids
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

export PREFECT_HOME="$work" PREFECT_LOGGING_LEVEL=CRITICAL PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" - <<'TEST'
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelled
from prefect.testing.utilities import prefect_test_harness


@flow(name="thumbnails")
def thumbnails(folder: str):
    return folder


def ask(client, deployment_id, folder):
    body = {"parameters": {"folder": folder}, "idempotency_key": "monday"}
    answer = client.request("POST", f"/deployments/{deployment_id}/create_flow_run", json=body)
    return answer.status_code, answer.json()


with prefect_test_harness(server_startup_timeout=200), get_client(sync_client=True) as client:
    flow_id = client.create_flow(thumbnails)
    one, other = (client.create_deployment(flow_id=flow_id, name=name) for name in ("desktop", "server"))
    (status, run), (status_of_other, run_of_other) = ask(client, one, "2025"), ask(client, other, "2026")
    print("a run of the one:", status, run["parameters"])
    print("a run of the other:", status_of_other, run_of_other["parameters"], "the same run:", run["id"] == run_of_other["id"])
    assert (status, status_of_other) == (201, 200)
    assert run["id"] == run_of_other["id"] and run_of_other["deployment_id"] == str(one)
    assert run_of_other["parameters"] == {"folder": "2025"}
    client.set_flow_run_state(run["id"], Cancelled(), force=True)
    status_again, again = ask(client, one, "2025")
    print("asked again when it is canceled:", status_again, again["state"]["type"], "the same run:", run["id"] == again["id"])
    assert (status_again, again["id"], again["state"]["type"]) == (200, run["id"], "CANCELLED")
    assert len(client.read_flow_runs()) == 1
TEST
