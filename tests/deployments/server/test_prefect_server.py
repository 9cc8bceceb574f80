"""The embedded Prefect server listens only where it should, and reports why it cannot start."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import prefect
import pytest

from deployments.embedded_server.empty_database import prepare_database
from deployments.errors import AddressNotUsable, PortInUse, PrefectHomeTooNew
from deployments.server.prefect_server import embedded_server
from tests.prefect_api import PrefectApi


def test_a_port_that_is_taken_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is taken"), embedded_server(tmp_path, port=port):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", None), ("nowhere.invalid", 4200), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_used_is_named(tmp_path: Path, host: str, port: int | None) -> None:
    with (
        pytest.raises(AddressNotUsable, match=rf"cannot listen on {host}.*[^.]\. Name"),
        embedded_server(tmp_path, host=host, port=port),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_server_may_have_an_address_of_ipv6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def launched(command: list[str], **_: Any) -> None:
        raise OSError(command[-2])

    monkeypatch.setattr(subprocess, "Popen", launched)
    with pytest.raises(OSError, match=f"^{host}$"), embedded_server(tmp_path, host=host):
        pass
    assert (tmp_path / "address").read_text().startswith("http://[::1]:")


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
def test_a_home_of_a_newer_prefect_is_named_with_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    with closing(sqlite3.connect(prepare_database(home))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")

    with pytest.raises(PrefectHomeTooNew, match=f"{home} was made by a newer Prefect") as raised, embedded_server(home):
        pass

    assert "move the folder away" in str(raised.value)


def listening_addresses(port: int) -> set[str]:
    """Return the IPv4 addresses, as the kernel writes them, on which a program listens on this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells here who listens")
def test_the_embedded_server_listens_on_the_loopback_alone(prefect_url: str) -> None:
    port = int(prefect_url.rsplit(":", 1)[1].split("/")[0])

    assert listening_addresses(port) == {"0100007F"}


@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
def test_a_slot_of_a_limit_is_given_back_after_a_restart_too(prefect_url: str, prefect_databases: list[Path]) -> None:
    with PrefectApi(prefect_url) as api:
        limits = "/v2/concurrency_limits"
        api.post(f"{limits}/", json={"name": "tag:disk", "limit": 1}).raise_for_status()
        try:
            taken = api.post(f"{limits}/increment-with-lease", json={"names": ["tag:disk"], "slots": 1})
            lease = taken.raise_for_status().json()["lease_id"]
        finally:
            api.delete(f"{limits}/tag:disk").raise_for_status()

    # A server that is started later finds the leases in its home, beside its database.
    assert [path for path in prefect_databases if (path.parent / "concurrency_leases" / f"{lease}.json").is_file()]


def test_a_lock_of_leases_that_a_killed_server_left_is_removed_before_the_next_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "concurrency_leases" / "expirations.lock"
    lock.parent.mkdir()
    # Prefect removes the lock only if no process has this id.
    lock.write_text(str(os.getpid()))
    at_start: list[bool] = []

    def launched(*_: Any, **__: Any) -> None:
        at_start.append(lock.exists())
        raise OSError("no process was started")

    monkeypatch.setattr(subprocess, "Popen", launched)
    with pytest.raises(OSError, match="no process was started"), embedded_server(tmp_path):
        pass

    assert at_start == [False]
    # Prefect has no public name for its lock. This test reads the source, because an import of the server takes long.
    storage = Path(prefect.__file__).parent / "server/concurrency/lease_storage/filesystem.py"
    assert '"expirations.lock"' in storage.read_text(), "Prefect's lock of leases has another name now"
