"""A URL that names no Prefect server is reported, whatever is wrong with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from deployments.cli.options.errors import ServerAway
from deployments.cli.options.named_server import check_named_server
from deployments.doctor.installation import examine_prefect
from deployments.server.server_api import ServerApi


@pytest.fixture
def other_server() -> Iterator[str]:
    """The URL of a server that does not answer in HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        thread.join()


def test_a_server_of_another_kind_is_named(other_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", other_server)
    with pytest.raises(ServerAway, match="SSH"):
        check_named_server()


def test_a_url_that_is_not_valid_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:42OO/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ServerAway, match="42OO"):
        check_named_server()
    with pytest.raises(ValueError, match="42OO"):
        ServerApi(url).post("/deployments/filter", {})
    (found,) = examine_prefect()
    assert "42OO" in found.says
