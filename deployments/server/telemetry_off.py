"""The switches that keep Prefect, and every other program that we start, from reporting on its use."""

from __future__ import annotations

import os
from typing import Final

#: `DO_NOT_TRACK` is for every client, the other switch for Prefect's server.
NO_TELEMETRY: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def switch_telemetry_off() -> None:
    """Set the switches for this process and its children; values that the user set are kept."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
