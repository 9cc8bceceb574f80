"""Servers on this machine are reached directly, whatever proxy the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from deployments.cli import main
from deployments.server.prefect_server import embedded_server
from deployments.server.telemetry_off import NO_TELEMETRY
from deployments.server.without_proxy import direct_environment


@pytest.fixture
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a machine behind a proxy; nothing listens on port 1, so a request to the proxy fails."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@pytest.mark.usefixtures("_proxy")
def test_the_embedded_server_is_reached_past_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api/health").write_text("true")
    start = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        # A server of files answers in place of Prefect's, which takes seconds to start.
        host, port = command[3:5]
        return start([sys.executable, "-m", "http.server", port, "--bind", host], cwd=tmp_path, **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    before = dict(os.environ)
    with embedded_server(tmp_path / "prefect") as url:
        assert httpx.get(f"{url}/health", timeout=60).text == "true"
        with urllib.request.urlopen(f"{url}/health", timeout=60) as answer:
            assert answer.status == 200
        assert get_proxy(parse_uri(url.replace("http", "ws"))) is None

    assert dict(os.environ) == before


@pytest.mark.usefixtures("_proxy")
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "127.0.0.0/8, .lan"}, "127.0.0.0/8,.lan,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "unread", "no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "unread", "no_proxy": ""}, "localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_hosts_that_the_user_excepted_stay_excepted(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], names: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    for name, value in direct_environment().items():
        monkeypatch.setenv(name, value)

    assert os.environ["no_proxy"] == names
    assert urllib.request.proxy_bypass("127.0.0.1:4200")


@pytest.mark.usefixtures("_proxy")
def test_every_command_reaches_servers_of_this_machine_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    # `main` sets these variables for the whole process; here they are restored after the test.
    for name in ("no_proxy", "NO_PROXY", *NO_TELEMETRY):
        monkeypatch.setenv(name, ".lan")
    monkeypatch.setattr(sys, "argv", ["photojobs", "--version"])

    with pytest.raises(SystemExit, match="0"):
        main()

    assert urllib.request.proxy_bypass("127.0.0.1:4200")


def test_without_a_proxy_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "somewhere")

    assert direct_environment("127.0.0.1") == {}
