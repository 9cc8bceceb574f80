#!/usr/bin/env bash
# Prefect 3.8.8 plans no scheduled run with SQLAlchemy 2.1, which it allows; its pages look well.
#
# Guess: Prefect's range "sqlalchemy<3" holds what was tested; if its scheduler failed, the server would not start, or say so.
# Behaviour: each round of the scheduler ends with "Can't evaluate bulk DML statement"; deployments and their schedules
#   are shown as active, and no run is ever planned. Prefect 3.9.1 plans with SQLAlchemy 2.0 and 2.1.
# Versions: prefect 3.8.8 and 3.9.1, sqlalchemy 2.1.9, fastapi 0.150.0
# Date: 2026-11-28
# Source: prefect/server/models/deployments.py, _insert_scheduled_flow_runs
# Covered by: the range of Prefect in pyproject.toml; tests/deployments/serving/test_scheduled_runs.py
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

cat > "$work/plan.py" <<'TEST'
import time

import prefect
import sqlalchemy
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule

with get_client(sync_client=True) as client:
    flow_id = client.create_flow_from_name("tick")
    minutely = DeploymentScheduleCreate(schedule=CronSchedule(cron="* * * * *"))
    client.create_deployment(flow_id, "minutely", schedules=[minutely])
    # New deployments are looked at every five seconds.
    give_up_at = time.monotonic() + 30
    while not (planned := client.read_flow_runs()) and time.monotonic() < give_up_at:
        time.sleep(1)
print(f"Prefect {prefect.__version__} with SQLAlchemy {sqlalchemy.__version__}: {len(planned)} runs planned")
raise SystemExit(bool(planned) != (prefect.__version__ != "3.8.8"))
TEST

for version in 3.8.8 3.9.1; do
    "$work/venv/bin/pip" install -q "prefect==$version" sqlalchemy==2.1.9 fastapi==0.150.0 2>/dev/null
    serve "$work/venv/bin/python" "$work/plan.py"
done
