#!/usr/bin/env bash
# When Prefect's server restarts, slots of concurrency limits that are in use stay taken forever, even after their tasks end.
#
# Guess: limits and their slots are in the server's database, so a restart changes nothing. A task that ends gives its slot
#   back, and a slot whose process died comes back when its lease is over: leases were introduced for that purpose.
# Behaviour: the number of taken slots is in the database, but the leases are in the server's memory, by default. After a
#   restart, a task that ends gives its slot back through a lease that the server no longer knows: the answer is 204, and
#   nothing changes. No lease is over, since none is known. A tag with one slot never lets a task run again, until
#   the limit is reset. With the leases in files, which is one setting, the slot is free when the task ends.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/settings/models/server/concurrency.py, lease_storage; prefect/server/api/concurrency_limits_v2.py,
#   bulk_decrement_active_slots_with_lease, "if not lease: return"; https://github.com/PrefectHQ/prefect/pull/20090
# Covered by: deployments/server/prefect_server.py, which has the leases in files; flows/orchestration/tag_limits.py;
#   tests/deployments/server/test_prefect_server.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --no-compile prefect==3.9.1
export PREFECT_HOME="$work/home" PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_LOGGING_LEVEL=ERROR

# Each run of this program is one life of the server: its application answers requests until the program ends.
cat > "$work/life.py" <<'PYTHON'
import asyncio
import sys
from pathlib import Path

import httpx
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.settings import PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE, temporary_settings

life, folder = sys.argv[1], Path(sys.argv[2])


async def live(http, storage):
    """Ask the server, which keeps its leases in `storage`, what the task engine asks."""

    async def take():
        """What the task engine asks for the tag of a task run: a lease, or 423 while no slot is free."""
        return await http.post("/increment-with-lease", json={"names": [name], "slots": 1, "lease_duration": 60})

    name, file = f"tag:{storage}", folder / f"lease_{storage}"
    if life == "first":
        (await http.post("/", json={"name": name, "limit": 1})).raise_for_status()
        file.write_text((await take()).raise_for_status().json()["lease_id"])
        assert (await take()).status_code == 423
        return
    given_back = (await http.post("/decrement-with-lease", json={"lease_id": file.read_text()})).status_code
    taken, next_task = (await http.get(f"/{name}")).json()["active_slots"], (await take()).status_code
    print(f"leases in {storage}: to give the slot back: {given_back}; then {taken} of 1 is taken; the next task: {next_task}")
    expected = {"memory": (204, 1, 423), "filesystem": (204, 0, 200)}
    assert (given_back, taken, next_task) == expected[storage]


async def main():
    await provide_database_interface().create_db()
    assert PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE.value().endswith(".memory")
    server = httpx.ASGITransport(create_app(ephemeral=True))
    async with httpx.AsyncClient(transport=server, base_url="http://server/api/v2/concurrency_limits", timeout=60) as http:
        for storage in ("memory", "filesystem"):
            module = f"prefect.server.concurrency.lease_storage.{storage}"
            with temporary_settings({PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE: module}):
                await live(http, storage)


asyncio.run(main())
PYTHON
for life in first second; do
    "$work/env/bin/python" "$work/life.py" "$life" "$work"
done
