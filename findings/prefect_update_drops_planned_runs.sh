#!/usr/bin/env bash
# Each update of a Prefect deployment, of its description or of nothing at all, deletes its planned runs; one that is due is lost.
#
# Guess: a change of the description, of tags or of nothing leaves the runs of the schedule alone: only a changed schedule has new runs.
#     At worst the scheduler plans the same runs again, so nothing is missing.
# Behaviour: an empty PATCH, registering the same deployment again and a PATCH of a schedule that changes nothing all delete every run that is
#     planned for later, with the names and parameters that users gave them. The scheduler plans anew in its next round, up to
#     a minute later, and from that moment on. What was due in between is never run: no run is late, missed or canceled, and
#     no page shows that there was one. So a program that registers its deployments at its start, or at each change of a file, loses
#     the run of 3:00 if it starts at 2:59:30. `POST /deployments/{id}/schedule` with a start before the update plans it again.
# Versions: prefect 3.9.1.
# Date: 2026-11-29.
# Source: prefect/server/models/deployments.py, update_deployment, which calls _delete_scheduled_runs; prefect/server/services/scheduler.py.
# Covered by: deployments/deploying/registration.py, `plan_runs`; tests/deployments/deploying/test_registration.py, "what is due while a
#     deployment is registered or its form renewed is not lost".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prefect==3.9.1
cd "$folder"
export PREFECT_HOME="$folder/home" PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_LOGGING_LEVEL=CRITICAL
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import asyncio
from datetime import datetime, timedelta, timezone

import httpx
from asgi_lifespan import LifespanManager
from prefect.server.api.server import create_app

HOURLY = {"schedule": {"interval": 3600, "anchor_date": "2020-01-01T00:30:00Z"}, "active": True}


async def repeated(send):
    """With an SQLite file, the server answers 503 while one of its services writes."""
    while (answer := await send()).status_code == 503:
        await asyncio.sleep(0.1)
    return answer


async def look(client):
    flow = (await repeated(lambda: client.post("/flows/", json={"name": "f"}))).json()["id"]
    declared = {"name": "hourly", "flow_id": flow, "schedules": [HOURLY]}
    deployment = (await repeated(lambda: client.post("/deployments/", json=declared))).json()["id"]
    place = f"/deployments/{deployment}"
    (schedule,) = (await client.get(place)).json()["schedules"]
    before = datetime.now(timezone.utc)

    async def plan(start):
        await repeated(lambda: client.post(f"{place}/schedule", json={"start_time": start.isoformat()}))

    async def planned():
        filters = {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"any_": [deployment]}}
        runs = await client.post("/flow_runs/filter", json={"flow_runs": filters, "sort": "EXPECTED_START_TIME_ASC"})
        return [datetime.fromisoformat(run["expected_start_time"]) for run in runs.json()]

    updates = {
        "PATCH of the description": lambda: client.patch(place, json={"description": "new"}),
        "empty PATCH": lambda: client.patch(place, json={}),
        "PATCH of the schedule as it is": lambda: client.patch(f"{place}/schedules/{schedule['id']}", json={"active": True}),
        "POST of the same deployment": lambda: client.post("/deployments/", json=declared),
    }
    for name, update in updates.items():
        await plan(before)
        runs = await planned()
        answer = await repeated(update)
        left = await planned()
        print(f"{name} ({answer.status_code}): {len(runs)} planned runs before, {len(left)} after")
        assert len(runs) > 1 and answer.status_code < 300 and not left
    # The next round of the scheduler begins after the first run was due.
    await plan(runs[0] + timedelta(seconds=30))
    later = await planned()
    print(f"due first: {runs[0]:%H:%M}; after the next round: {later[0]:%H:%M}")
    assert runs[0] not in later and runs[1] in later
    await plan(before)
    assert runs[0] in await planned()


async def main():
    app = create_app(ephemeral=True, webserver_only=True)
    async with LifespanManager(app, startup_timeout=120):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://prefect/api", timeout=60) as client:
            await look(client)


asyncio.run(main())
PYTHON
