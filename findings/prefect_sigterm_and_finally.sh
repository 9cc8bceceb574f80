#!/usr/bin/env bash
# On SIGTERM a Prefect flow waits for its tasks without limit, then kills its process: no `finally` around the flow runs.
#
# Guess: Prefect raises an exception for SIGTERM so that a flow can end in order: tasks in threads are given up, the exception
#     leaves the call of the flow, and `finally`, context managers and `atexit` of the program clean up, as on Ctrl-C.
# Behaviour: the flow's own `finally` runs. Then the task runner waits until each running task has ended, however long it
#     takes. Then Prefect restores the former handler and sends the process SIGTERM again, from within: by default
#     it dies there. What surrounds the call of the flow never runs, so files and processes that it holds stay.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/utilities/engine, capture_sigterm; prefect/task_runners.py, ThreadPoolTaskRunner.__exit__
# Covered by: flows/orchestration/task_flow.py, `follow_task`, which sets a limit and hands its jobs back inside the flow;
#     tests/flows/execution/test_signals.py
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

cat > "$work/flow.py" <<'TEST'
import atexit
import os
import signal
import threading

from prefect import flow, task

begun, released = threading.Event(), threading.Event()


def say(words):
    print(words, flush=True)


@task
def work():
    begun.set()
    # Released by the flow, well after its end was asked for; a task that nobody releases would keep the process alive.
    released.wait()
    say("the task ran to its end")


@flow
def any_flow():
    try:
        running = work.submit()
        begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        running.wait()
    finally:
        say("finally of the flow")
        threading.Timer(5, released.set).start()


atexit.register(say, "atexit")
try:
    any_flow()
except BaseException:
    say("except around the flow")
    raise
finally:
    say("finally around the flow")
TEST

cat > "$work/end.py" <<'TEST'
import subprocess
import sys

run = subprocess.run([sys.executable, f"{sys.argv[0].rpartition('/')[0]}/flow.py"], stdout=subprocess.PIPE, text=True)
print(run.stdout, f"return code {run.returncode}", sep="")
assert run.stdout.splitlines() == ["finally of the flow", "the task ran to its end"]
assert run.returncode == -15
TEST

"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null
serve "$work/venv/bin/python" "$work/end.py"
