"""Restricts the embedded server to requests for its own names and from its own pages.

Other sites cannot show the server's pages in frames. The password and the tokens against forged requests are settings
of Prefect, which `deployments.server.prefect_server` sets. The setting `server_hosts` has further names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names and addresses that only this machine itself can reach.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class OwnPagesOnly:
    """ASGI middleware that refuses requests with a foreign Host header and requests of foreign origins.

    A foreign Host header may mean that the name of a foreign page was made to point to this machine (DNS rebinding).

    Args:
        app: the guarded application.
        hosts: the allowed names in the Host header, besides those of the loopback.
        is_open: whether the server listens on an address other than the loopback. Then every numeric address is an
            allowed host, because DNS rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = (), is_open: bool = False) -> None:
        self._app = app
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, or refuse it with 403; a refused WebSocket is closed."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(Headers(scope=scope))
        if problem is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": problem})
        else:
            await PlainTextResponse(problem + "\n", status_code=403)(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "The Host header is not a name of this server. Add it to the setting server_hosts of photojobs."
        if any(not self._is_own_origin(origin, hosts[0]) for origin in origins):
            return "Pages of other origins may not use this server. Use the pages of this server."
        return None

    def _is_own(self, host: str) -> bool:
        name = _name_of(host)
        return name is not None and (name in self._hosts or (self._is_open and _is_address(name)))

    def _is_own_origin(self, origin: str, host: str) -> bool:
        parts = origin.partition("://")
        if parts[0] not in ("http", "https"):
            return False
        if parts[2].lower() == host.lower():
            return True
        # Page and request may use different names of the same server: `localhost` and `127.0.0.1`.
        name, own_name = _name_of(parts[2]), _name_of(host)
        is_loopback = name in LOOPBACK_NAMES and own_name in LOOPBACK_NAMES
        return is_loopback and _port_of(parts[2]) == _port_of(host)


def _unframed(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            # Otherwise a foreign page could show this page in a frame, and misuse a user's clicks.
            headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
            headers.setdefault("X-Frame-Options", "DENY")
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "same-origin")
        await send(message)

    return send_with_headers


def _name_of(host: str) -> str | None:
    """Return the host without its port, in lowercase letters; None if the text is not a host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None


def _port_of(host: str) -> int | None:
    return urlsplit(f"//{host}").port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
