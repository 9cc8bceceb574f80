"""The endpoint for Prometheus: a small server while a command runs, if the settings name a port.

The settings are `metrics_port` and `metrics_host`. `deployments.metrics.queue_collector` decides which numbers are
published.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.errors import MetricsNotServed
from storage.database.engine import Database
from storage.settings import Settings

logger = logging.getLogger("photojobs.metrics")


@contextmanager
def metrics_endpoint(database: Database, settings: Settings) -> Iterator[str | None]:
    """Answer on `metrics_host` and `metrics_port` during the block; yield the address, or None if nothing is served.

    A port that is in use causes only a warning: several processes can share one settings file, and each would report
    the same numbers of the database.

    Raises:
        MetricsNotServed: the host does not belong to this machine, or the port may not be used.
    """
    if settings.metrics_port is None:
        yield None
        return
    # The import is here and not at the top, because a process without metrics does not need this library.
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

    from deployments.metrics.queue_collector import QueueCollector

    registry = CollectorRegistry()
    registry.register(QueueCollector(database))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    host = settings.metrics_host
    try:
        server, thread = start_http_server(settings.metrics_port, addr=host, registry=registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            logger.warning(
                "this process serves no metrics: another process uses %s:%d. If that process is not "
                "photojobs, name another port in PHOTOJOBS_METRICS_PORT.",
                host,
                settings.metrics_port,
            )
            yield None
            return
        raise MetricsNotServed(
            f"metrics cannot be served on {host}:{settings.metrics_port}: {error.strerror or error}. Name another port "
            "in PHOTOJOBS_METRICS_PORT, or another address in PHOTOJOBS_METRICS_HOST."
        ) from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    logger.info("metrics are served at %s", address)
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
