#!/usr/bin/env bash
# A planned run that is deleted in Prefect comes back within a minute and runs; one that is canceled stays away.
#
# Guess: to leave out one run of a schedule, as that of tonight, one deletes it: the list of planned runs has a button for it, the answer is
#     204, and the run is gone. To cancel is for runs that have begun.
# Behaviour: the scheduler plans each moment of the schedule for which there is no run, in each round. It knows a run by its key, which is made
#     of the deployment, the schedule and the moment, so a deleted run is planned again, with another id and another name, and without
#     the parameters that a user had changed. A canceled run keeps the key, and nothing takes its place. If old runs are deleted to
#     clean up, those of the future must be left out for the same reason.
# Versions: prefect 3.9.1.
# Date: 2026-11-29.
# Source: prefect/server/models/deployments.py, _generate_scheduled_flow_runs (idempotency_key) and _insert_scheduled_flow_runs.
# Covered by: docs/how-to/prefect-ui.md, "Switch schedules off and on"; deployments/serving/missed_runs.py, which cancels and deletes nothing.
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

FIRST = datetime.now(timezone.utc) + timedelta(hours=1)
SCHEDULE = {"schedule": {"interval": 3600, "anchor_date": FIRST.isoformat()}, "active": True}


async def look(client):
    async def ask(method, path, **body):
        answer = await client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    flow = (await ask("POST", "/flows/", name="f"))["id"]
    deployment = (await ask("POST", "/deployments/", name="d", flow_id=flow, schedules=[SCHEDULE]))["id"]

    async def planned():
        # The request does what the scheduler does once a minute.
        await ask("POST", f"/deployments/{deployment}/schedule")
        filters = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        return await ask("POST", "/flow_runs/filter", flow_runs=filters, sort="EXPECTED_START_TIME_ASC")

    def moment(run):
        return run["expected_start_time"][:16]

    tonight = (await planned())[0]
    await ask("PATCH", f"/flow_runs/{tonight['id']}", name="the run of tonight")
    assert (await planned())[0]["name"] == "the run of tonight"
    await ask("DELETE", f"/flow_runs/{tonight['id']}")
    again = (await planned())[0]
    print(f"deleted: the run of {moment(tonight)}; planned next: {moment(again)}, {again['name']!r}")
    assert moment(again) == moment(tonight) and again["id"] != tonight["id"] and again["name"] != "the run of tonight"
    await ask("POST", f"/flow_runs/{again['id']}/set_state", state={"type": "CANCELLED"})
    after = (await planned())[0]
    print(f"canceled: the run of {moment(again)}; planned next: {moment(after)}")
    assert moment(after) > moment(tonight)


async def main():
    app = create_app(ephemeral=True, webserver_only=True)
    async with LifespanManager(app, startup_timeout=120):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://prefect/api", timeout=60) as client:
            await look(client)


asyncio.run(main())
PYTHON
