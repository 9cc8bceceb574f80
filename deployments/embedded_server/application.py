"""The ASGI application of the embedded server: Prefect's own, with what photojobs changes of it."""

from __future__ import annotations

from fastapi import FastAPI
from prefect.server.api.server import create_app

from deployments.embedded_server.database import serialise_writers


def embedded_application() -> FastAPI:
    """Prefect's API and pages. One for each process; middleware of ours is added here."""
    serialise_writers()
    return create_app(final=True)
