#!/usr/bin/env bash
# Behind a company's proxy, Prefect's clients ask the proxy for the server on 127.0.0.1, also if NO_PROXY names 127.0.0.0/8.
#
# Guess: no client sends a request for its own machine to a proxy, as no browser does; or NO_PROXY=127.0.0.0/8, which curl, Go
#     and requests understand, prevents it. HTTPS_PROXY, at any rate, is for https:// and wss://, and not for a plain ws://.
# Behaviour: httpx and websockets, with which Prefect's client works, except no address by themselves and read no range. Each of
#     the three libraries reads NO_PROXY in its own way: with 127.0.0.1/32, httpx goes directly and websockets to the proxy;
#     with 127.0.0.1:4200 it is requests that goes to the proxy. For ws://, websockets takes HTTPS_PROXY even before HTTP_PROXY,
#     so that requests work and events do not. The plain address works with all of them.
# Versions: httpx 0.28.1, websockets 16.1.1, requests 2.34.2.
# Date: 2026-11-29.
# Source: httpx/_utils.py, get_environment_proxies; websockets/proxy.py, get_proxy; requests/utils.py, should_bypass_proxies.
# Covered by: deployments/server/without_proxy.py; tests/deployments/server/test_without_proxy.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q httpx==0.28.1 websockets==16.1.1 requests==2.34.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import socketserver
import threading

import httpx
import requests
from websockets.exceptions import InvalidMessage, InvalidStatus, ProxyError
from websockets.sync.client import connect

asked = []


class Recorder(socketserver.StreamRequestHandler):
    """Answers each request with 404, and notes which server was asked: the proxy, or the one on this machine."""

    def handle(self):
        self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        asked.append(self.server.name)
        self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def serve(name):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


port, proxy = serve("server"), serve("proxy")
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]


def by_websockets():
    try:
        connect(f"ws://127.0.0.1:{port}/api/events/in").close()
    except (InvalidMessage, InvalidStatus, ProxyError):
        pass


def reached(proxy_variable, no_proxy):
    """Whom httpx, websockets and requests ask for 127.0.0.1."""
    os.environ[proxy_variable], os.environ["NO_PROXY"] = f"http://127.0.0.1:{proxy}", no_proxy
    asked.clear()
    httpx.get(f"http://127.0.0.1:{port}/api/health")
    by_websockets()
    requests.get(f"http://127.0.0.1:{port}/api/health", timeout=60)
    print(f"{proxy_variable}, NO_PROXY={no_proxy!r}: httpx asks the {asked[0]}, websockets the {asked[1]}, requests the {asked[2]}")
    del os.environ[proxy_variable]
    return asked.copy()


assert reached("HTTP_PROXY", "") == ["proxy", "proxy", "proxy"]
assert reached("HTTP_PROXY", "127.0.0.0/8") == ["proxy", "proxy", "server"]
assert reached("HTTP_PROXY", "127.0.0.1/32") == ["server", "proxy", "server"]
assert reached("HTTP_PROXY", f"127.0.0.1:{port}") == ["server", "server", "proxy"]
assert reached("HTTP_PROXY", "127.0.0.1") == ["server", "server", "server"]
assert reached("HTTPS_PROXY", "") == ["server", "proxy", "server"]
PYTHON
