#!/usr/bin/env bash
# A Prefect deployment that is registered again is resumed, and loses schedules that were added in the pages.
#
# Guess: registering the same deployment again is idempotent: what a user paused or added in the pages stays.
# Behaviour: `apply` sends `paused: false` though nobody set it. If one schedule has no slug, as those of the pages, all
#   schedules are replaced by the declared ones.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/_internal/schemas/validators.py, reconcile_paused_deployment; prefect/server/api/deployments.py,
#   update_deployment
# Covered by: deployments/deploying/registration.py; tests/deployments/deploying/test_registration.py
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

cat > "$work/again.py" <<'TEST'
from datetime import timedelta

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType


@flow
def greet(): ...


def register():
    nightly = Cron("0 3 * * *", slug="nightly")
    return greet.to_deployment("nightly", schedules=[nightly], entrypoint_type=EntrypointType.MODULE_PATH).apply()


with get_client(sync_client=True) as client:
    deployment_id = register()
    client.pause_deployment(deployment_id)
    by_hand = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=5)))
    client.create_deployment_schedules(deployment_id, [by_hand])
    before = client.read_deployment(deployment_id)
    register()
    after = client.read_deployment(deployment_id)
for when, found in (("before", before), ("after", after)):
    print(f"{when}: paused {found.paused}, {len(found.schedules)} schedules")
assert (before.paused, len(before.schedules)) == (True, 2)
assert (after.paused, len(after.schedules)) == (False, 1)
TEST

"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
serve "$work/venv/bin/python" "$work/again.py"
