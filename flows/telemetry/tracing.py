"""Whether this process makes OpenTelemetry spans: where its SDK is installed and somebody asks for it, else at no cost.

Not for making them: `flows.telemetry.spans` does, and is loaded only then.
"""

from __future__ import annotations

import logging
import os
import sys

from flows.telemetry.span_makers import NoTracing, Tracing

logger = logging.getLogger("photojobs.tracing")

#: The standard variables of which one says that spans are wanted, and where they go.
EXPORTER_VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def open_tracing() -> Tracing:
    """The tracing of this process, by the standard `OTEL_…` variables, or by what the program has set up itself."""
    if not _is_wanted():
        return NoTracing()
    try:
        from flows.telemetry.spans import open_spans
    except ImportError:
        logger.warning("OTEL_… asks for spans, but OpenTelemetry's SDK is missing: pip install 'photojobs[otel]'")
        return NoTracing()
    return open_spans()


def _is_wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if any(os.environ.get(name, "none") != "none" for name in EXPORTER_VARIABLES):
        return os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    # A program that has set up spans itself has imported the SDK.
    if "opentelemetry.sdk.trace" not in sys.modules:
        return False
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    return isinstance(trace.get_tracer_provider(), TracerProvider)
