#!/usr/bin/env bash
# `prefect deploy` takes double braces in any text of prefect.yaml for a template: it deletes words, or writes $HOME into the text.
#
# Guess: templates are for the fields of prefect.yaml that a deployment runs with, such as images and job variables. A description
#     and tags are text for readers; and a template that names nothing is an error, or stays as it is.
# Behaviour: every text of a deployment is filled in, also its description, its tags and the parameters of its schedules. A name
#     that no step has given becomes nothing: a tag of that text and a parameter of a schedule are deleted, the latter without a
#     warning, so that the run has the default of the flow. `{{ $HOME }}` becomes the value of the variable on the machine that
#     deploys, for all readers of the page. There is no way to escape braces. `flow.deploy()` and the API keep texts as they are.
# Versions: prefect 3.9.1.
# Date: 2026-11-29.
# Source: prefect/cli/deploy/_core.py, the calls of apply_values; prefect/cli/deploy/_schedules.py;
#     prefect/utilities/templating, PLACEHOLDER_CAPTURE_REGEX; https://github.com/PrefectHQ/prefect/pull/20611.
# Covered by: deployments/deploying/prefect_yaml.py, which refuses such texts; tests/deployments/deploying/test_prefect_yaml.py.
set -euo pipefail

work=$(mktemp -d)
trap 'kill -INT ${server:-} 2>/dev/null && wait $server; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
python=$work/venv/bin/python
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME=$work/home PREFECT_API_URL=http://127.0.0.1:$port/api PREFECT_SERVER_ANALYTICS_ENABLED=false
"$python" -m prefect server start --host 127.0.0.1 --port "$port" > "$work/server.log" 2>&1 &
server=$!
until "$python" -c "import urllib.request as r; r.urlopen('$PREFECT_API_URL/health')" 2>/dev/null; do sleep 0.5; done

mkdir "$work/project"
cd "$work/project"
cat > greet.py <<'FLOW'
from prefect import flow


@flow
def greet(tenant: str = "everyone"): ...
FLOW
cat > prefect.yaml <<'DEPLOYMENTS'
pull: []
deployments:
- name: nightly
  entrypoint: greet.py:greet
  description: Albums are named {{ year }}-{{ month }}, as in {{ $ALBUMS }}.
  tags: [photos, "{{ year }}"]
  work_pool: {name: pool}
  schedules:
  - cron: 0 3 * * *
    parameters: {tenant: "{{ year }}"}
DEPLOYMENTS
"$python" -m prefect work-pool create pool --type process > "$work/output" 2>&1
export ALBUMS=/home/someone/albums
"$python" -m prefect --no-prompt deploy --all > "$work/output" 2>&1 || { cat "$work/output"; exit 1; }
"$python" - <<'TEST'
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    deployed = client.read_deployment_by_name("greet/nightly")
print(f"description: {deployed.description}")
print(f"tags: {deployed.tags}; parameters of the schedule: {deployed.schedules[0].parameters}")
assert deployed.description == "Albums are named -, as in /home/someone/albums."
assert deployed.tags == ["photos"]
assert deployed.schedules[0].parameters == {}
TEST
