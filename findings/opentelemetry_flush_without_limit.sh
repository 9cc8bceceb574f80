#!/usr/bin/env bash
# OpenTelemetry's `force_flush(500)` waits as long as the exporter does, and returns True although nothing was sent.
#
# Guess: `TracerProvider.force_flush(timeout_millis)` returns after this time at the latest, with False, as its documentation says.
#     So a short program can flush at its end, and is late by half a second at most if the collector does not answer.
# Behaviour: BatchSpanProcessor takes the timeout and does not use it: it exports all batches in the calling thread. Each batch of
#     512 spans waits for the exporter's own timeout, 10 seconds by default, also if the limit is over. The result is True, since
#     a failed export counts as done; the spans are lost. OTEL_BSP_EXPORT_TIMEOUT changes nothing either; only the timeout of the
#     exporter does.
# Versions: opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-http 1.45.2.
# Date: 2026-11-29.
# Source: opentelemetry/sdk/_shared_internal/__init__.py, BatchProcessor.force_flush;
#     https://github.com/open-telemetry/opentelemetry-python/issues/4568 and /issues/4555.
# Covered by: flows/telemetry/spans.py, which limits the exporter; tests/flows/telemetry/test_spans.py, "a process does not wait
#     long for a collector that does not answer".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
OTEL_BSP_EXPORT_TIMEOUT=500 "$folder/venv/bin/python" - <<'PYTHON'
import logging
import socket
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logging.disable()
LIMIT, EXPORTER_TIMEOUT = 0.5, 2

# A collector that takes connections and never answers, as one that is overloaded.
with socket.create_server(("127.0.0.1", 0)) as collector:
    endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}/v1/traces"
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(endpoint, timeout=EXPORTER_TIMEOUT), max_export_batch_size=10, schedule_delay_millis=60_000
        )
    )
    for _ in range(9):
        provider.get_tracer("finding").start_span("job").end()

    began = time.monotonic()
    result = provider.force_flush(int(LIMIT * 1000))
    flushed = time.monotonic() - began
    print(f"force_flush with a limit of {LIMIT} s: {flushed:.1f} s, returns {result}, and no span has arrived")

assert result is True
assert flushed >= EXPORTER_TIMEOUT
PYTHON
