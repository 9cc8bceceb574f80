#!/usr/bin/env bash
# A Prefect deployment that an update has paused still runs what was due: its late runs are handed to the next runner that asks.
#
# Guess: `paused: true` keeps a deployment from running, whichever way it is set; a runner or worker gets no run of a paused deployment.
# Behaviour: `PATCH /deployments/{id}` with `paused`, which the client's update_deployment and registering a deployment send, deletes the runs
#     that are planned for later, and leaves those that are due: late ones, since no runner was up, and those of the moment. The
#     server does not look at `paused` when a runner asks for runs, so they start, hours later, when a runner does. Switching the
#     schedule off leaves them, too. `POST /deployments/{id}/pause_deployment`, the switch in the pages, deletes both. Runs that were
#     started by hand stay in each case, and a paused deployment takes new ones.
# Versions: prefect 3.9.1.
# Date: 2026-11-29.
# Source: prefect/server/models/deployments.py, update_deployment, `future_only=True`; prefect/server/api/deployments.py, pause_deployment.
# Covered by: deployments/deploying/registration.py, `pause_missing`; tests/deployments/deploying/test_registration.py, "a definition that
#     was removed while nothing was served is paused by the next start".
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

# A run is due each ten minutes, the next one in five minutes.
IN_FIVE_MINUTES = datetime.now(timezone.utc) + timedelta(minutes=5)
SCHEDULE = {"schedule": {"interval": 600, "anchor_date": IN_FIVE_MINUTES.isoformat()}, "active": True}


async def look(client):
    async def ask(method, path, **body):
        # With an SQLite file, the server answers 503 while one of its services writes.
        for _ in range(100):
            answer = await client.request(method, path, **({"json": body} if method != "GET" else {}))
            if answer.status_code != 503:
                answer.raise_for_status()
                return answer.json() if answer.content else None
            await asyncio.sleep(0.1)
        raise SystemExit("the server is busy")

    flow = (await ask("POST", "/flows/", name="f"))["id"]

    async def runs_after(name, pause):
        place = f"/deployments/{(await ask('POST', '/deployments/', name=name, flow_id=flow, schedules=[SCHEDULE]))['id']}"
        deployment = await ask("GET", place)
        now = datetime.now(timezone.utc)
        begin, end = now - timedelta(minutes=20), now + timedelta(minutes=20)
        await ask("POST", f"{place}/schedule", start_time=begin.isoformat(), end_time=end.isoformat())
        await ask("POST", f"{place}/create_flow_run", name="by hand")
        await pause(place, deployment["schedules"][0]["id"])
        ids = [deployment["id"]]
        handed = await ask("POST", "/deployments/get_scheduled_flow_runs", deployment_ids=ids)
        kinds = {
            "due": sum(run["auto_scheduled"] and datetime.fromisoformat(run["expected_start_time"]) <= now for run in handed),
            "later": sum(datetime.fromisoformat(run["expected_start_time"]) > now + timedelta(minutes=1) for run in handed),
            "by hand": sum(not run["auto_scheduled"] for run in handed),
        }
        print(f"{name}: paused is {(await ask('GET', place))['paused']}; handed to a runner: {kinds}")
        return kinds

    async def nothing(place, schedule):
        pass

    async def update(place, schedule):
        await ask("PATCH", place, paused=True)

    async def switch_off(place, schedule):
        await ask("PATCH", f"{place}/schedules/{schedule}", active=False)

    async def press(place, schedule):
        await ask("POST", f"{place}/pause_deployment")

    before = await runs_after("not paused", nothing)
    assert before["due"] > 0 and before["later"] > 0 and before["by hand"] == 1
    assert await runs_after("PATCH with paused", update) == before | {"later": 0}
    assert await runs_after("PATCH of the schedule", switch_off) == before | {"later": 0}
    assert await runs_after("POST pause_deployment", press) == {"due": 0, "later": 0, "by hand": 1}


async def main():
    app = create_app(ephemeral=True, webserver_only=True)
    async with LifespanManager(app, startup_timeout=120):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://prefect/api", timeout=60) as client:
            await look(client)


asyncio.run(main())
PYTHON
