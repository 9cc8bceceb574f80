#!/usr/bin/env bash
# Prefect's client asks for the deployment "Pass" if it is asked for "Pass#2", and starts that one.
#
# Guess: Prefect refuses names that it cannot address: `/`, `%`, `&`, `<` and `>` are errors. Each name that it accepts can be read by
#     `read_deployment_by_name`, `run_deployment` and the other calls by name, or else they raise ObjectNotFound.
# Behaviour: the client writes names into the path of a URL unquoted. `#` and `?` end the path, so the rest of the name is left out: of
#     "Pass#2" and "Pass?2" the server is asked for "Pass". If there is one, it is the answer, without an error, and a caller that goes
#     on with its id starts, pauses or deletes it. If there is none, a deployment that is registered and runs by schedule is
#     "not found". The name ".." is removed from the path. Reading by id, filters and the pages are right.
# Versions: prefect 3.9.1, httpx 0.28.1.
# Date: 2026-11-29.
# Source: prefect/client/orchestration/base.py, BaseClient.request, `path.format(**path_params)`; prefect/types/names.py, BANNED_CHARACTERS;
#     https://github.com/PrefectHQ/prefect/issues/15698, which was closed.
# Covered by: flows/starting/deployment_names.py, `_BANNED`; tests/flows/starting/test_deployment_names.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prefect==3.9.1 httpx==0.28.1
cd "$folder"
export PREFECT_HOME="$folder/home" PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_LOGGING_LEVEL=CRITICAL
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import asyncio

from asgi_lifespan import LifespanManager
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.server.api.server import create_app

NAMES = ("Pass", "Pass#2", "Pass?2", "Other#2", "Pass;2", "Pass [2]", "Pass é", "..")
RIGHT = ("Pass", "Pass;2", "Pass [2]", "Pass é")


async def main():
    app = create_app(ephemeral=True, webserver_only=True)
    found = {}
    async with LifespanManager(app, startup_timeout=120), PrefectClient(app) as client:
        flow = await client.create_flow_from_name("f")
        ids = {name: await client.create_deployment(flow_id=flow, name=name) for name in NAMES}
        by_id = {name: (await client.read_deployment(id)).name for name, id in ids.items()}
        for name in NAMES:
            try:
                found[name] = (await client.read_deployment_by_name(f"f/{name}")).name
            except ObjectNotFound:
                found[name] = None
            except Exception as error:
                found[name] = type(error)
            print(f"asked for {name!r}: {found[name]!r}")
    assert all(by_id[name] == name for name in NAMES)
    assert all(found[name] == name for name in RIGHT)
    assert found["Pass#2"] == found["Pass?2"] == "Pass"
    assert found["Other#2"] is None and found[".."] != ".."


asyncio.run(main())
PYTHON
