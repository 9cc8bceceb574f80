#!/usr/bin/env bash
# Prefect can leave planned runs of a schedule that is switched off; they start at their moments.
#
# Guess: a request that switches a schedule off removes its planned runs, so the schedule starts nothing any more.
# Behaviour: the scheduler reads the schedules, computes the runs of up to a hundred deployments, and then writes them
#   without another look. Runs of a schedule that was switched off in between come back. No later round removes them.
# Versions: prefect 3.9.1
# Date: 2026-11-29
# Source: prefect/server/services/scheduler.py, schedule_recent_deployments; prefect/server/api/deployments.py
# Covered by: deployments/deploying/registration.py, remove_stale_runs; tests/deployments/deploying/test_registration.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

cat > "$work/switch.py" <<'TEST'
import time

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule

with get_client(sync_client=True) as client:
    flow = client.create_flow_from_name("tidy")
    each_minute = [DeploymentScheduleCreate(schedule=CronSchedule(cron="* * * * *"))]

    def planned(deployment_id):
        of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        return client.read_flow_runs(flow_run_filter=of_deployment)

    for attempt in range(3):
        deployments = [client.create_deployment(flow, f"tidy {attempt} {n}", schedules=each_minute) for n in range(25)]
        # The scheduler plans new deployments each five seconds. One of these moments falls into its work.
        for one in deployments:
            client.update_deployment_schedule(one, client.read_deployment(one).schedules[0].id, active=False)
            time.sleep(0.25)
        # Two more rounds of the scheduler begin and end in this time.
        time.sleep(15)
        wrong = [one for one in deployments if planned(one) and not client.read_deployment(one).schedules[0].active]
        if wrong:
            break
print(f"{len(wrong)} of {len(deployments)} schedules are switched off and have planned runs")
assert wrong
TEST

port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME=$work/home PREFECT_API_URL=http://127.0.0.1:$port/api PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" -m prefect server start --host 127.0.0.1 --port "$port" > "$work/server.log" 2>&1 &
server=$!
until "$work/venv/bin/python" -c "import urllib.request as r; r.urlopen('$PREFECT_API_URL/health')" 2>/dev/null; do sleep 0.5; done
found=0
"$work/venv/bin/python" "$work/switch.py" || found=$?
kill -INT $server
wait $server || true
exit $found
