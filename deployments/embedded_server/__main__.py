"""The server's process: builds the application, and serves it until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import uvicorn
from prefect.settings import get_current_settings

from deployments.embedded_server.application import embedded_application

#: How long the server waits at its end for connections, which open pages keep.
SHUTDOWN_SECONDS = 3


def main(host: str, port: int, hosts: Sequence[str] = ()) -> None:
    """Serve on the address `host` and `port`, also under the names in `hosts`; log warnings and errors on stderr."""
    os.umask(0o077)
    api = get_current_settings().server.api
    uvicorn.run(
        embedded_application(host, hosts=hosts),
        host=host,
        port=port,
        log_level="warning",
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
