#!/usr/bin/env bash
# A Prefect client for a server without TLS loads the certificates of all authorities.
#
# Guess: a client for `http://127.0.0.1:4200/api` has nothing to do with certificates, so making one costs nothing.
# Behaviour: each client loads certifi's whole list, some 10 to 50 ms of processor time, as much as the requests of a
#   short flow run. `verify=False` in its httpx settings does not prevent it; an `ssl.SSLContext` there does.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/client/orchestration/__init__.py, SyncPrefectClient.__init__
# Covered by: flows/starting/prefect_client.py; tests/flows/orchestration/test_prefect_link.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

export PREFECT_HOME="$work" PREFECT_API_URL=http://127.0.0.1:4200/api
"$work/venv/bin/python" - <<'TEST'
import ssl
import time

from prefect.client.orchestration import get_client

loaded = []
original = ssl.SSLContext.load_verify_locations


def count(self, *given, **named):
    loaded.append(1)
    original(self, *given, **named)


ssl.SSLContext.load_verify_locations = count


def make(**settings):
    loaded.clear()
    began = time.process_time()
    get_client(sync_client=True, httpx_settings=settings)
    print(f"{settings or 'by default'}: {len(loaded)} lists loaded, {1000 * (time.process_time() - began):.1f} ms")
    return len(loaded)


make()
assert make() == 1
assert make(verify=False) == 1
assert make(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) == 0
TEST
