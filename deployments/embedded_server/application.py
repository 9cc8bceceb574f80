"""The ASGI application of the embedded server: Prefect's own, with the changes of photojobs."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from prefect.server.api.server import create_app

from deployments.embedded_server.guards import LOOPBACK_NAMES, OwnPagesOnly
from deployments.embedded_server.login import login_route
from deployments.embedded_server.serial_writers import serialize_writers


def embedded_application(host: str, *, hosts: Sequence[str] = ()) -> FastAPI:
    """Return Prefect's API and pages with our middleware; call this once in a process.

    Args:
        host: the address that the server listens on.
        hosts: further names under which browsers reach the server.
    """
    serialize_writers()
    application = create_app(final=True)
    # Placed before the route of Prefect's pages, which matches every path.
    application.router.routes.insert(0, login_route())
    is_open = host not in LOOPBACK_NAMES
    application.add_middleware(OwnPagesOnly, hosts=[*hosts, *([host] if is_open else [])], is_open=is_open)
    return application
