#!/usr/bin/env bash
# Prefect's server takes null for a parameter that has no default, and refuses it for one that has a default.
#
# Guess: a flow's form is JSON Schema: null is no string, so `{"type": "string"}` refuses it; or, if null is taken for "not
#     given", it is so for each parameter that need not be given, above all for those that have a default to fall back on.
# Behaviour: before it validates, the server adds null to the types of each field that is neither required nor has a default.
#     With a default, null is a 409. So a field that a user empties in the form must have no default, or allow null itself.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/utilities/schema_tools/validation.py, _fix_null_typing; prefect/server/api/validation.py
# Covered by: deployments/deploying/forms.py, `_without_empty_default`; tests/deployments/deploying/test_forms.py
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

cat > "$work/null.py" <<'TEST'
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

SCHEMA = {
    "type": "object",
    "properties": {"plain": {"type": "string"}, "with_default": {"type": "string", "default": "x"}},
}


@flow
def any_flow(plain, with_default="x"): ...


with get_client(sync_client=True) as client:
    flow_id = client.create_flow(any_flow)

    deployment_id = client.create_deployment(
        flow_id, "form", parameter_openapi_schema=SCHEMA, enforce_parameter_schema=True
    )

    def run(parameters):
        try:
            client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
        except PrefectHTTPStatusError as error:
            return error.response.status_code
        return 201

    seen = {name: run({name: None}) for name in SCHEMA["properties"]}
for name, status in seen.items():
    print(f"a run with null for {name}: {status}")
assert seen == {"plain": 201, "with_default": 409}
TEST

"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
serve "$work/venv/bin/python" "$work/null.py"
