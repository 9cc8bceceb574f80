"""The switches that turn off usage reports, in Prefect and in every other program that photojobs starts."""

from __future__ import annotations

import os
from typing import Final

#: Programs that respect `DO_NOT_TRACK` send nothing; Prefect's server has a switch of its own.
NO_TELEMETRY: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def switch_telemetry_off() -> None:
    """Set the switches for this process and its children; values that the user set are kept."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
