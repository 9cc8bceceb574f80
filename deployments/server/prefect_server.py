"""Runs Prefect's server as a child process: starts it, waits for it, restarts it if it dies, and stops it.

If `PREFECT_API_URL` names a server, that one is used and nothing is started. `deployments.embedded_server.password`
makes the password of the server, and `deployments.embedded_server.guards` refuses requests.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from deployments.embedded_server.empty_database import database_is_elsewhere, prepare_database
from deployments.embedded_server.password import auth_string_of, note_address
from deployments.errors import AddressNotUsable, PortInUse, PrefectHomeTooNew, PrefectServerFailed
from deployments.server.kept_process import KeptProcess, end_process
from deployments.server.server_log import SERVER_LOG
from deployments.server.telemetry_off import NO_TELEMETRY
from deployments.server.without_proxy import direct_environment
from storage.database.private_files import make_private_folder, open_private_log

#: How long a server may take to stop before it is killed.
STOP_TIMEOUT_SECONDS = 15.0

#: The default address on which an embedded server listens.
LOOPBACK = "127.0.0.1"

_PR_SET_PDEATHSIG = 1
# The library is loaded at import: between fork and exec, a child of a process with threads must not load a library.
_libc = ctypes.CDLL(None)

#: Opens URLs without a proxy, whatever the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def prefect_server(
    home: Path, *, host: str = LOOPBACK, port: int | None = None, hosts: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the URL of a Prefect API: the one in `PREFECT_API_URL`, else that of a server that this block runs."""
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    with embedded_server(home, host=host, port=port, hosts=hosts) as url:
        yield url


@contextmanager
def embedded_server(
    home: Path, *, host: str = LOOPBACK, port: int | None = None, hosts: Sequence[str] = ()
) -> Iterator[str]:
    """Run a Prefect server with its database and log in `home` during the block; yield the URL of its API.

    During the block, Prefect in this process uses this server. The server asks for the password that is stored in
    `home`. Prefect in this process and in its children sends the password; see `deployments.embedded_server.password`.

    Args:
        home: the server's own folder (`PREFECT_HOME`), created if it is missing; a later start uses its content.
        host: the address to listen on.
        port: the port to listen on; by default a free one. `photojobs up` gives 4200 unless a user names another.
        hosts: names, besides those of the loopback, under which browsers reach the server, such as that of a proxy.

    Raises:
        PortInUse: the port is taken.
        AddressNotUsable: this process may not listen on the address or port.
        PrefectHomeTooNew: a newer Prefect has used `home`.
        PrefectServerFailed: the server ended, or did not answer in time; the message names its log.
    """
    make_private_folder(home)
    port = _port_to_use(host, port)
    if not database_is_elsewhere():
        prepare_database(home)
    name = _reachable_name(host)
    url = f"http://{name}:{port}/api"
    log_path = home / SERVER_LOG
    lock_of_leases = home / "concurrency_leases" / "expirations.lock"
    auth_string = auth_string_of(home)
    note_address(home, url)
    client = _client_environment(home, url, auth_string) | direct_environment(name.strip("[]"))
    of_server = client | _server_environment(url, auth_string, is_open=host != LOOPBACK)
    with ExitStack() as stack:
        log = stack.enter_context(open_private_log(log_path))
        log_begins_at = log.tell()

        def launch() -> subprocess.Popen[bytes]:
            # A killed server leaves its lock behind, which names its process id. If another process has this id now
            # (in a container, the next server has it), Prefect would wait for the lock without end.
            lock_of_leases.unlink(missing_ok=True)
            return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments.
                [sys.executable, "-m", "deployments.embedded_server", host, str(port), *hosts],
                env=os.environ | of_server,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The server gets its own session, so that Ctrl-C does not stop the server before the runs have ended.
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )

        server = KeptProcess(
            name="Prefect's server",
            launch=launch,
            is_ready=partial(_is_healthy, url),
            failed=PrefectServerFailed,
            stop=partial(end_process, signal_number=signal.SIGINT, limit_seconds=STOP_TIMEOUT_SECONDS),
            log_path=log_path,
        )
        try:
            stack.enter_context(server.running())
        except PrefectServerFailed:
            if _is_too_new(log_path, log_begins_at):
                raise PrefectHomeTooNew(_too_new(home)) from None
            raise
        stack.enter_context(_using(client))
        stack.callback(_send_what_is_left)
        yield url


@contextmanager
def _using(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        if "prefect" in sys.modules:
            # Prefect has read its settings already, so changed variables have no effect on it.
            from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

            known = (PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME)
            changed = {setting: environment[setting.name] for setting in known}
            with temporary_settings(changed):
                yield
        else:
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _send_what_is_left() -> None:
    # Logs and events are sent in batches. Sending them after the server has stopped would print an error.
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        for service in (APILogWorker, EventsWorker):
            service.drain_all(timeout=STOP_TIMEOUT_SECONDS)
    if "flows.orchestration.prefect_link" in sys.modules:
        from flows.orchestration.prefect_link import link

        link.flush(STOP_TIMEOUT_SECONDS)


def _client_environment(home: Path, url: str, auth_string: str) -> dict[str, str]:
    """Return the environment variables with which this process and its children reach the server."""
    return {
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_PROFILES_PATH": str(home.absolute() / "profiles.toml"),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": auth_string,
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        **NO_TELEMETRY,
    }


def _server_environment(url: str, auth_string: str, *, is_open: bool) -> dict[str, str]:
    """Return the additional environment variables of the server's process."""
    loopback = url.removesuffix("/api")
    return {
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{loopback},{loopback.replace(LOOPBACK, 'localhost')}",
        # A browser on another machine cannot reach our loopback address, so its pages need a relative URL.
        "PREFECT_UI_API_URL": "/api" if is_open else url,
        # Prefect stores leases of concurrency slots in memory by default. They would be lost when the server ends, and
        # their slots would stay taken forever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }


def _is_healthy(url: str) -> bool:
    try:
        with _direct.open(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (OSError, HTTPException):
        return False


def _is_too_new(log_path: Path, since: int) -> bool:
    with log_path.open("rb") as log:
        log.seek(since)
        # Alembic, which migrates the server's database, logs this if a newer Prefect has migrated it before.
        return b"Can't locate revision identified by" in log.read()


def _too_new(home: Path) -> str:
    return (
        f"{home} was made by a newer Prefect than the installed version {importlib.metadata.version('prefect')}. "
        "Install the newer version again, or move the folder away. It contains the history of runs and the switches "
        "that users set in Prefect's pages; tasks and jobs are in the database of photojobs."
    )


def die_with_parent() -> None:
    """Have the kernel end this child process when its parent dies. Linux only."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    _libc.prctl(_PR_SET_PDEATHSIG, 0)


def _port_to_use(host: str, port: int | None) -> int:
    """Return the port, or a free one for None, after a check that a server can listen there."""
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as probe:
            if port is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address[0], port or 0, *address[2:]))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is taken by another program; stop that program, or choose another port with "
                "--port"
            ) from None
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise AddressNotUsable(
            f"Prefect's server cannot listen on {host}, port {port or 'any'}: {reason}. Name an address of this "
            "machine with --host, and a port from 1024 to 65535 with --port."
        ) from None


def _reachable_name(host: str) -> str:
    """Return the host, as in a URL, at which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound.
        return LOOPBACK
    host = "::1" if host == "::" else host
    return f"[{host}]" if ":" in host else host
