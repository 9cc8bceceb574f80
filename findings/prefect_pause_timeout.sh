#!/usr/bin/env bash
# Prefect 3.9.1 fails a flow run whose pause times out, though its page says that the run resumes automatically.
#
# Guess: the dialog "Pause" of a flow run's page says "The flow will automatically resume after the timeout", so the run
#   is scheduled again when the timeout is over.
# Behaviour: a service of the server sets the run to Failed, "The flow was paused and never resumed."
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/services/pause_expirations.py, fail_expired_pause; the dialog's text in the V2 UI's
#   flow-run page, which posts the state {"type": "PAUSED", "name": "Suspended"} with pause_reschedule and pause_timeout
# Covered by: deployments/serving/flow_run_recovery.py, which restarts such a run if its task has not ended
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/env"
"$work/env/bin/pip" install -q prefect==3.9.1 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME="$work/home" PREFECT_API_URL="http://127.0.0.1:$port/api" PREFECT_SERVER_ANALYTICS_ENABLED=false
"$work/env/bin/prefect" server start --host 127.0.0.1 --port "$port" > "$work/server.log" 2>&1 &
server=$!

cat > "$work/pause.py" <<'PYTHON'
import time
from datetime import UTC, datetime, timedelta

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

with httpx.Client() as http:
    import os

    url, give_up_at = os.environ["PREFECT_API_URL"], time.monotonic() + 180
    while True:
        try:
            if http.get(f"{url}/health").status_code == 200:
                break
        except httpx.TransportError:
            pass
        if time.monotonic() > give_up_at:
            raise SystemExit("the server did not start")
        time.sleep(0.5)

    @flow
    def any_flow() -> None: ...

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(any_flow, state=Running())
    until = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    state = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_timeout": until, "pause_reschedule": True}}
    http.post(f"{url}/flow_runs/{run.id}/set_state", json={"state": state, "force": True}).raise_for_status()
    for _ in range(120):
        seen = http.get(f"{url}/flow_runs/{run.id}").json()["state"]
        if seen["type"] != "PAUSED":
            break
        time.sleep(0.5)
    print(f"after the timeout: {seen['type']}, {seen['message']}")
    raise SystemExit(0 if seen["type"] == "FAILED" and "never resumed" in (seen["message"] or "") else 1)
PYTHON
"$work/env/bin/python" "$work/pause.py"
