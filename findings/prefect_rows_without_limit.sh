#!/usr/bin/env bash
# Prefect's client returns 200 rows when it is asked for all of them, and says nothing of the others.
#
# Guess: `read_flow_runs()` has `limit: int | None = None`, so without a limit it returns each run that the filter finds, page
#     by page if it must.
# Behaviour: None becomes the server's default of 200, which is also the largest limit: 201 is a 422. Neither the answer
#     nor the client shows that there are more. Code that cleans up, as by canceling what is left behind, works with every
#     amount that a test makes, and leaves the rest.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/api/dependencies.py, LimitBody; prefect/client/orchestration/_flow_runs/client.py
# Covered by: deployments/serving/our_flow_runs.py, `all_flow_runs`; tests/deployments/serving/test_missed_runs.py
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

cat > "$work/all.py" <<'TEST'
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Scheduled


@flow
def any_flow(): ...


with get_client(sync_client=True) as client:
    for _ in range(203):
        client.create_flow_run(any_flow, state=Scheduled())
    without, given = len(client.read_flow_runs()), len(client.read_flow_runs(limit=200))
    rest = len(client.read_flow_runs(limit=200, offset=200))
    try:
        client.read_flow_runs(limit=201)
        status = 200
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
print(f"of 203 runs: {without} without a limit, {given} with 200, {rest} on the next page; a limit of 201 is a {status}")
assert (without, given, rest, status) == (200, 200, 3, 422)
TEST

"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
serve "$work/venv/bin/python" "$work/all.py"
