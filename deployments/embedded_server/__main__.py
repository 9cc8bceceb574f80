"""The server's process: adds our checks to Prefect's application, and serves it until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from deployments.import_outside_gc import imported_outside_gc

with imported_outside_gc():
    import uvicorn
    from fastapi import FastAPI
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    from deployments.embedded_server.guards import LOOPBACK_NAMES, OwnPagesOnly
    from deployments.embedded_server.login import login_route
    from deployments.embedded_server.serial_writers import serialize_writers

#: How long a stopping server waits for connections to close. A page in a browser keeps its connection open.
SHUTDOWN_SECONDS = 3


def main(host: str, port: int, hosts: Sequence[str] = ()) -> None:
    """Serve on the address `host` and `port`, also under the names in `hosts`; log warnings and errors on stderr."""
    os.umask(0o077)
    api = get_current_settings().server.api
    with imported_outside_gc():
        application = _application(host, hosts)
    uvicorn.run(
        application,
        host=host,
        port=port,
        log_level="warning",
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _application(host: str, hosts: Sequence[str]) -> FastAPI:
    """Return Prefect's API and pages with our middleware; call this once in a process."""
    serialize_writers()
    application = create_app(final=True)
    # The route is placed before the route of Prefect's pages, which matches every path.
    application.router.routes.insert(0, login_route())
    is_open = host not in LOOPBACK_NAMES
    application.add_middleware(OwnPagesOnly, hosts=[*hosts, *([host] if is_open else [])], is_open=is_open)
    return application


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
