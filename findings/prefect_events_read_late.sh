#!/usr/bin/env bash
# An event that Prefect's server has accepted cannot be read for up to five seconds, although subscribers have it at once.
#
# Guess: when `POST /events` has answered, the event is stored, and `POST /events/filter` finds it, as with flow runs.
#     At the latest when a subscriber or an automation has seen it, it is there for all.
# Behaviour: the request puts the event into a queue in memory. A service writes the queue to the database every 5 seconds, or
#     earlier once it has 20 events; subscribers and automations take events from the queue. So a program that an event wakes
#     does not find it, and a test that sends one event and looks for it waits longer than one that sends 20. The setting
#     PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL is the time. A server that is killed loses what was not written.
# Versions: prefect 3.9.1
# Date: 2026-11-29
# Source: prefect/server/events/services/event_persister.py, create_handler; prefect/server/events/api/events.py, create_events
# Covered by: tests/conftest.py, which sets the interval for the servers of the tests; flows/orchestration/event_socket.py, which
#     takes the answer of the server, and not a query, as the sign that events have arrived
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

export PREFECT_HOME="$work" PREFECT_LOGGING_LEVEL=CRITICAL PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/venv/bin/python" - <<'TEST'
import asyncio
import time
from datetime import datetime, timezone
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.testing.utilities import prefect_test_harness


def send(client, *names):
    now = datetime.now(timezone.utc).isoformat()
    resource = {"prefect.resource.id": "disk.1"}
    events = [{"id": str(uuid4()), "occurred": now, "event": name, "resource": resource} for name in names]
    return client.request("POST", "/events", json=events).status_code


def found(client, name):
    body = {"filter": {"event": {"name": [name]}}, "limit": 1}
    return client.request("POST", "/events/filter", json=body).json()["total"]


def seconds_until_found(client, name, count=1):
    begin = time.monotonic()
    while found(client, name) < count:
        assert time.monotonic() - begin < 60, "never found"
        time.sleep(0.1)
    return time.monotonic() - begin


async def subscribed(client, name):
    """Send one event; return how many of it are found when a subscriber has it."""
    async with get_events_subscriber(filter=EventFilter(event=EventNameFilter(name=[name]))) as subscriber:
        await asyncio.to_thread(send, client, name)
        await asyncio.wait_for(anext(aiter(subscriber)), 60)
        return await asyncio.to_thread(found, client, name)


with prefect_test_harness(server_startup_timeout=200), get_client(sync_client=True) as client:
    send(client, "first")
    seconds_until_found(client, "first")
    # The queue has just been written, so the next time is five seconds away.
    status = send(client, "single")
    single = seconds_until_found(client, "single")
    print(f"one event: answer {status}, found after {single:.1f} seconds")
    at_subscriber = asyncio.run(subscribed(client, "subscribed"))
    print("events found when a subscriber has received one:", at_subscriber)
    seconds_until_found(client, "subscribed")
    send(client, *["many"] * 20)
    many = seconds_until_found(client, "many", 20)
    print(f"twenty events: found after {many:.1f} seconds")
    assert status == 204 and at_subscriber == 0
    assert single > 3 > many
TEST
