"""Sends events to Prefect's server by websocket, which takes less time than requests if there are many events.

Prefect's own client sends all its events in this way. `flows.orchestration.prefect_link` falls back to requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from collections.abc import Sequence
from typing import Self

import certifi
from prefect.events.clients import events_in_socket_from_api_url
from prefect.settings import get_current_settings
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from task_definitions.foreign_documents import parse_json

logger = logging.getLogger("photojobs.prefect")

#: A connection that was not used for this long is replaced by a new one. Between two calls of `send`, no code answers
#: the pings of the server. The server closes a connection that does not answer, by default after 40 seconds.
FRESH_SECONDS = 10.0


class EventSocket:
    """A websocket connection for events, which is opened when it is needed. Only one thread may use it.

    After an error, the connection is not opened again, because the server or a proxy may not support websockets.

    Args:
        answer_seconds: how long the server may take for the events of one call.
    """

    def __init__(self, *, answer_seconds: float) -> None:
        self._answer_seconds = answer_seconds
        self._runner = asyncio.Runner()
        self._connection: ClientConnection | None = None
        self._used_at = 0.0
        api = get_current_settings().api
        # A key is for Prefect Cloud, whose authentication this socket does not support, so the socket is not used with
        # a key.
        self._is_usable = api.url is not None and api.key is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            self._runner.run(self._drop())
        self._runner.close()

    @property
    def is_open(self) -> bool:
        """Whether events can be sent without a new connection."""
        return self._connection is not None and time.monotonic() - self._used_at < FRESH_SECONDS

    def send(self, events: Sequence[bytes]) -> bool:
        """Send events in order, each as JSON in UTF-8. Return whether the server has accepted all events.

        If the result is False, the caller must send all events again by a request. The server ignores the events that
        it already has.
        """
        if not self._is_usable:
            return False
        try:
            self._runner.run(self._send(events))
        except Exception as error:  # noqa: BLE001 - whatever the error is, the caller can send the events by a request.
            logger.info("events are sent to Prefect by requests, because its websocket failed: %r", error)
            self._is_usable = False
            self._runner.run(self._drop())
            return False
        self._used_at = time.monotonic()
        return True

    async def _send(self, events: Sequence[bytes]) -> None:
        async with asyncio.timeout(self._answer_seconds):
            connection = await self._opened()
            for event in events:
                await connection.send(event, text=True)
            # The server answers the first ping when it has read all events, and the second ping when it has processed
            # them. If it refuses an event, it closes the connection, and the wait for the second answer fails.
            for _ in range(2):
                await (await connection.ping())

    async def _opened(self) -> ClientConnection:
        if self._connection is not None and self.is_open:
            return self._connection
        await self._drop()
        settings = get_current_settings()
        url, password = str(settings.api.url), settings.api.auth_string
        token = None if password is None else password.get_secret_value()
        headers = dict(settings.client.custom_headers)
        if token is not None:
            # A proxy in front of the server may ask for the password, so the password is sent with the first request.
            headers["Authorization"] = f"Basic {base64.b64encode(token.encode()).decode()}"
        self._connection = await connect(
            events_in_socket_from_api_url(url),
            ssl=_tls() if url.startswith("https:") else None,
            subprotocols=[Subprotocol("prefect")],
            additional_headers=headers,
            compression=None,
            ping_interval=None,
        )
        await self._connection.send(json.dumps({"type": "auth", "token": token}))
        answer = parse_json(await self._connection.recv(), source="the answer of the websocket of Prefect's server")
        if answer["type"] != "auth_success":
            raise PermissionError(f"the server refused the password: {answer}")
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A closing handshake would wait for a server that does not answer. The handshake is not needed, because the
            # server has already confirmed the events.
            connection.transport.abort()
            await connection.wait_closed()


def _tls() -> ssl.SSLContext:
    api = get_current_settings().api
    context = ssl.create_default_context(cafile=api.ssl_cert_file or certifi.where())
    if api.tls_insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
