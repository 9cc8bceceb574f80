"""Decides whether this process creates OpenTelemetry spans: if spans are requested, and the SDK is installed.

`flows.telemetry.spans` creates the spans. That module is imported only if spans are needed, because its import takes
time.
"""

from __future__ import annotations

import logging
import os
import sys

from flows.telemetry.span_makers import Tracing

logger = logging.getLogger("photojobs.tracing")

#: OpenTelemetry's environment variables for exporters. One of them with another value than `none` requests spans.
EXPORTER_VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def open_tracing() -> Tracing:
    """Return the tracing of this process, according to the standard `OTEL_…` variables or the program's own set-up."""
    if not _is_wanted():
        return Tracing()
    try:
        from flows.telemetry.spans import open_spans
    except ImportError:
        logger.warning(
            "no spans are created: an OTEL_… variable asks for them, but OpenTelemetry's SDK is not installed. Install "
            "it with `pip install 'photojobs[otel]'`"
        )
        return Tracing()
    return open_spans()


def _is_wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if any(os.environ.get(name, "none") != "none" for name in EXPORTER_VARIABLES):
        return os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    # A program that has set up spans itself has already imported the SDK, so the SDK is not imported here first.
    if "opentelemetry.sdk.trace" not in sys.modules:
        return False
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    return isinstance(trace.get_tracer_provider(), TracerProvider)
