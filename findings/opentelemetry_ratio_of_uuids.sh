#!/usr/bin/env bash
# OpenTelemetry's sampler by ratio takes no trace at all up to 0.5, and each one from 0.75 on, if trace ids are UUIDs.
#
# Guess: a trace id is 128 bits, and so is a UUID of version 4, which is random. So a program can give the trace of a task or request
#     the UUID that this already has, and `traceidratio` with 0.1 keeps a tenth of the traces.
# Behaviour: the sampler takes the lower 64 bits for a random number, and keeps the trace if it is below ratio * 2^64. In a UUID these
#     begin with the two bits of the variant, always 1 and 0, so the number is between 0.5 and 0.75 of that range: 0.1 keeps nothing, 0.6
#     keeps 4 of 10, 0.75 keeps all. It is the same for a UUID of version 7, such as the id of a flow run of Prefect. With all traces
#     sampled, which is the default, nothing shows it. A hash of the UUID has no fixed bits.
# Versions: opentelemetry-sdk 1.45.2, uuid-utils 1.2.0 for version 7.
# Date: 2026-11-29.
# Source: opentelemetry/sdk/trace/sampling.py, TraceIdRatioBased.should_sample; RFC 9562, 4.1; W3C Trace Context Level 2, "Random
#     Trace ID Flag", which wants the lower 56 bits to be random.
# Covered by: flows/telemetry/spans.py, `_trace_id`; tests/flows/telemetry/test_spans.py, "of tasks with uuids a sampler by ratio takes
#     its share".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opentelemetry-sdk==1.45.2 uuid-utils==1.2.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import uuid

import uuid_utils
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

COUNT = 2000
KINDS = {
    "random ids": RandomIdGenerator().generate_trace_id,
    "UUIDs of version 4": lambda: uuid.uuid4().int,
    "UUIDs of version 7": lambda: uuid_utils.uuid7().int,
}
shares = {}
for ratio in (0.1, 0.5, 0.6, 0.75):
    sampler = TraceIdRatioBased(ratio)
    for kind, make in KINDS.items():
        sampled = sum(sampler.should_sample(None, make(), "task").decision.is_sampled() for _ in range(COUNT))
        shares[ratio, kind] = sampled / COUNT
    print(f"ratio {ratio}: " + ", ".join(f"{shares[ratio, kind]:.2f} of {kind}" for kind in KINDS))
for ratio in (0.1, 0.5, 0.6, 0.75):
    assert abs(shares[ratio, "random ids"] - ratio) < 0.06
for kind in ("UUIDs of version 4", "UUIDs of version 7"):
    assert shares[0.1, kind] == shares[0.5, kind] == 0
    assert abs(shares[0.6, kind] - 0.4) < 0.06
    assert shares[0.75, kind] == 1
PYTHON
