"""Many events go to Prefect's server by its websocket, and by requests if that fails."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    temporary_settings,
)
from websockets import Subprotocol
from websockets.sync.server import ServerConnection, serve

from flows.orchestration import event_socket, prefect_link
from flows.orchestration.event_socket import EventSocket
from flows.orchestration.prefect_events import emit_to_prefect
from flows.orchestration.prefect_link import PrefectLink
from flows.telemetry.events import Event
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

#: Longer than any test may take.
_PATIENT = 120.0

#: How long a test waits for an answer that never comes.
_IMPATIENT = 0.5


class StandIn:
    """A simulated Prefect server, which stores the events that it reads, separately for each connection.

    Args:
        most: the number of events after which it closes a connection.
        is_deaf: whether it reads no events.
        tls: the certificate of the server.
    """

    def __init__(self, *, most: int = 1_000, is_deaf: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._most = most
        self._is_deaf = is_deaf
        self._is_over = threading.Event()
        self.connections: list[list[str]] = []
        self.headers: list[Any] = []
        self._server = serve(
            self._serve, "127.0.0.1", 0, ssl=tls, subprotocols=[Subprotocol("prefect")], max_queue=1, close_timeout=0.1
        )
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}/api"

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._server.shutdown()
            thread.join()

    def wait_for(self, *connections: list[str]) -> None:
        """Wait until the server has read these events, in one list for each connection."""
        wait_until(lambda: self.connections == list(connections), what=lambda: f"it has read all: {self.connections}")

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/api/events/in"
        self.headers.append(connection.request.headers)
        taken: list[str] = []
        self.connections.append(taken)
        assert json.loads(connection.recv()) == {"type": "auth", "token": "us:secret"}
        connection.send(json.dumps({"type": "auth_success"}))
        if self._is_deaf:
            self._is_over.wait()
        for text in connection:
            taken.append(json.loads(text)["event"])
            if len(taken) >= self._most:
                return


@contextmanager
def using(url: str) -> Iterator[None]:
    """Let Prefect use the server at this address during the block."""
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "us:secret"}):
        yield


def bodies(*names: str, size: int = 0) -> list[bytes]:
    return [json.dumps({"event": name, "payload": size * "x"}).encode() for name in names]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn().running() as server, using(server.url):
        yield server


def test_events_are_sent_in_order_by_one_connection_while_it_is_fresh(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventSocket(answer_seconds=_PATIENT) as sending:
        assert sending.send(bodies("first", "second"))
        assert sending.is_open
        assert sending.send(bodies("third"))
        stand_in.wait_for(["first", "second", "third"])
        # A server closes a connection whose client answers none of its pings.
        monkeypatch.setattr(event_socket, "FRESH_SECONDS", 0.0)
        assert sending.send(bodies("fourth"))
        stand_in.wait_for(["first", "second", "third"], ["fourth"])


def test_the_headers_are_those_of_requests(stand_in: StandIn) -> None:
    headers = {PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Pass": "proxy"}}
    with temporary_settings(headers), EventSocket(answer_seconds=_PATIENT) as sending:
        assert sending.send(bodies("told"))

    assert stand_in.headers[0]["X-Pass"] == "proxy"
    assert stand_in.headers[0]["Authorization"] == "Basic dXM6c2VjcmV0"


def test_a_server_that_reads_nothing_keeps_the_sender_no_longer_than_an_answer_may_take() -> None:
    # More data than all buffers between client and server can hold.
    events = bodies(*map(str, range(200)), size=200_000)
    with StandIn(is_deaf=True).running() as deaf, using(deaf.url), EventSocket(answer_seconds=_IMPATIENT) as sending:
        assert not sending.send(events)
        assert not sending.send(events)


def test_a_server_that_answers_nothing_is_not_asked_again() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.enter_context(using(f"http://127.0.0.1:{silent.getsockname()[1]}/api"))
        sending = stack.enter_context(EventSocket(answer_seconds=_IMPATIENT))
        silent.settimeout(0.0)
        assert not sending.send(bodies("lost"))
        # On a slow machine, the limit may pass before a connection is open.
        with suppress(BlockingIOError):
            silent.accept()[0].close()
        assert not sending.send(bodies("lost"))
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.parametrize("settings", [{PREFECT_API_KEY: "pnu_key"}, {PREFECT_API_URL: None}])
def test_only_servers_without_keys_get_events_in_this_way(stand_in: StandIn, settings: dict[Any, Any]) -> None:
    with temporary_settings(settings), EventSocket(answer_seconds=_PATIENT) as sending:
        assert not sending.send(bodies("lost"))

    assert stand_in.connections == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for this machine that no authority has signed, and a server's context with it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    path = folder / "certificate.pem"
    path.write_bytes(signed.public_bytes(Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, secret)
    return path, context


@pytest.mark.parametrize(
    ("setting", "is_accepted"),
    [
        (lambda path: {PREFECT_API_SSL_CERT_FILE: str(path)}, True),
        (lambda path: {PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}, True),
        (lambda path: {}, False),
    ],
)
def test_a_server_with_tls_must_have_a_known_certificate_unless_the_settings_say_otherwise(
    certificate: tuple[Path, ssl.SSLContext], setting: Callable[[Path], dict[Any, Any]], is_accepted: bool
) -> None:
    path, context = certificate
    with ExitStack() as stack:
        server = stack.enter_context(StandIn(tls=context).running())
        stack.enter_context(using(server.url))
        stack.enter_context(temporary_settings(setting(path)))
        sending = stack.enter_context(EventSocket(answer_seconds=_PATIENT))
        assert sending.send(bodies("told")) == is_accepted
        server.wait_for(*([["told"]] if is_accepted else []))


class Requests:
    """A simulated client of Prefect, which stores the events of each request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[str]] = []
        monkeypatch.setattr(prefect_link, "impatient_client", self._client)

    @contextmanager
    def _client(self, **_: Any) -> Iterator[Requests]:
        yield self

    def request(self, _method: str, _path: str, *, content: bytes, **_: Any) -> None:
        self.batches.append([one["event"] for one in json.loads(content)])


def _event(name: str, subject: str = "photojobs.job.1", role: str = "tenant") -> Event:
    return Event(name=name, subject=subject, label="note", related={role: "user_0"})


def _emit(link: PrefectLink, names: Sequence[str]) -> None:
    for name in names:
        emit_to_prefect(_event(name), by=link)


def test_many_events_go_by_the_websocket_and_few_by_a_request_unless_it_is_open(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_link, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(prefect_link, "BATCH_SIZE", 3)
    monkeypatch.setattr(prefect_link, "SOCKET_BATCH_SIZE", 3)
    requests, link = Requests(monkeypatch), PrefectLink()
    _emit(link, ["0", "1"])
    assert link.flush(_PATIENT)
    _emit(link, ["2", "3", "4", "5"])
    assert link.flush(_PATIENT)

    assert requests.batches == [["0", "1"]]
    stand_in.wait_for(["2", "3", "4", "5"])


def test_events_go_by_requests_in_order_after_the_websocket_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_link, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(prefect_link, "BATCH_SIZE", 3)
    monkeypatch.setattr(prefect_link, "SOCKET_BATCH_SIZE", 3)
    requests, link = Requests(monkeypatch), PrefectLink()
    with StandIn(most=4).running() as server, using(server.url), link.asking(lambda _: None, every_seconds=3600.0):
        _emit(link, list("012345678"))
        assert link.flush(_PATIENT)

    # Of the second batch, the server has read an event before it closed the connection.
    assert server.connections == [["0", "1", "2", "3"]]
    assert requests.batches == [["3", "4", "5"], ["6", "7", "8"]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The results of all calls of `EventSocket.send`."""
    results: list[bool] = []
    send = EventSocket.send

    def noted(self: EventSocket, events: Sequence[bytes]) -> bool:
        results.append(send(self, events))
        return results[-1]

    monkeypatch.setattr(EventSocket, "send", noted)
    monkeypatch.setattr(prefect_link, "GATHER_SECONDS", 3600.0)
    return results


def _recorded(api: str, subject: str, count: int) -> list[str]:
    """Wait until a server has recorded this number of events about a subject. Return their names."""
    body = {"filter": {"any_resource": {"id": [subject]}}, "limit": 50}
    with PrefectApi(api) as client:

        def found() -> list[str]:
            answer = client.post("/events/filter", json=body).raise_for_status().json()
            assert answer["total"] <= count
            return sorted(one["event"] for one in answer["events"])

        wait_until(lambda: len(found()) == count, what="it has recorded them")
        return found()


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_real_server_records_each_event_once(prefect_api: str, sent: list[bool]) -> None:
    link, subject = PrefectLink(), f"photojobs.job.{uuid4()}"
    names = [f"photojobs.job.{number:02}" for number in range(50)]
    for name in names:
        emit_to_prefect(_event(name, subject), by=link)

    assert link.flush(_PATIENT)
    assert sent == [True]
    assert _recorded(prefect_api, subject, 50) == names


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize("refused", [0, 2, 4])
def test_an_event_that_a_real_server_refuses_costs_no_other_one(
    prefect_api: str,
    sent: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: int,
) -> None:
    monkeypatch.setattr(prefect_link, "SOCKET_BATCH_SIZE", 5)
    link, subject = PrefectLink(), f"photojobs.job.{uuid4()}"
    for number in range(5):
        role = "" if number == refused else "tenant"
        emit_to_prefect(_event(f"photojobs.job.{number}", subject, role), by=link)

    assert link.flush(_PATIENT)
    assert sent[0] is False
    assert f"Prefect refused the event photojobs.job.{refused}" in caplog.text
    others = [f"photojobs.job.{number}" for number in range(5) if number != refused]
    assert _recorded(prefect_api, subject, 4) == others


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_real_server_refuses_a_wrong_password(prefect_api: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="photojobs.prefect")
    with temporary_settings({PREFECT_API_AUTH_STRING: "us:wrong"}), EventSocket(answer_seconds=_PATIENT) as sending:
        assert not sending.send(bodies("lost"))

    assert "its websocket failed" in caplog.text
