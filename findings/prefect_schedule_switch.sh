#!/usr/bin/env bash
# A Prefect schedule that is switched off or on through the API loses its parameters.
#
# Guess: a PATCH of a schedule with `active` alone changes `active` alone, as a PATCH of a deployment does.
# Behaviour: its parameters become empty, because the server writes the default of each field that was not sent. The runs
#   that it plans afterwards have none of them.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/models/deployments.py, update_deployment_schedule: `exclude_none`, not `exclude_unset`
# Covered by: deployments/deploying/registration.py, restore_parameters; tests/deployments/deploying/test_registration.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"

serve() { # serve PYTHON SCRIPT: runs SCRIPT beside a Prefect server of that Python.
    local python=$1 script=$2 home port
    home=$(mktemp -d -p "$work")
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export PREFECT_HOME=$home PREFECT_API_URL=http://127.0.0.1:$port/api PREFECT_SERVER_ANALYTICS_ENABLED=false
    "$python" -m prefect server start --host 127.0.0.1 --port "$port" > "$home/server.log" 2>&1 &
    server=$!
    until "$python" -c "import urllib.request as r; r.urlopen('$PREFECT_API_URL/health')" 2>/dev/null; do sleep 0.5; done
    "$python" "$script" || { tail -20 "$home/server.log"; kill -INT $server; exit 1; }
    kill -INT $server
    wait $server || true
}

cat > "$work/switch.py" <<'TEST'
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule

with get_client(sync_client=True) as client:
    nightly = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), parameters={"who": "anna"})
    deployment_id = client.create_deployment(client.create_flow_from_name("greet"), "nightly", schedules=[nightly])
    before = client.read_deployment(deployment_id).schedules[0]
    for active in (False, True):
        client.update_deployment_schedule(deployment_id, before.id, active=active)
    after = client.read_deployment(deployment_id).schedules[0]
print(f"parameters before {before.parameters}, switched off and on {after.parameters}")
assert (before.parameters, after.parameters) == ({"who": "anna"}, {})
TEST

"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
serve "$work/venv/bin/python" "$work/switch.py"
