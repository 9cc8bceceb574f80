"""OpenTelemetry spans of tasks, steps and jobs. `flows.telemetry.tracing` loads this module if the SDK is installed.

The jobs of a task may run in many processes, and the span of a task is created only after the task has ended. So every
process computes the same ids of the trace, of the task's span and of the steps' spans from the task's id.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes

from flows.telemetry.span_makers import JobSpan, Tracing
from storage.queue.lanes import lane_name
from storage.records import Job
from storage.reports.task_summary import TaskSummary

logger = logging.getLogger("photojobs.tracing")

#: How long an export of up to 512 spans may take, unless a variable in `_TIMEOUT_VARIABLES` is set. A process that ends
#: waits up to this time for the export of its last spans, because OpenTelemetry ignores the timeout of `force_flush`.
EXPORT_SECONDS = 3.0

_TIMEOUT_VARIABLES = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")

#: The trace id and the span id of the span that is created next; None if its ids are random.
_next_ids: ContextVar[tuple[int, int] | None] = ContextVar("photojobs_next_span_ids", default=None)


class _DerivedIds(RandomIdGenerator):
    """Returns the ids in `_next_ids` if they are set, and random ids otherwise."""

    def generate_trace_id(self) -> int:
        derived = _next_ids.get()
        return super().generate_trace_id() if derived is None else derived[0]

    def generate_span_id(self) -> int:
        derived = _next_ids.get()
        return super().generate_span_id() if derived is None else derived[1]


def open_spans() -> Tracing:
    """Return a `Spans` with the tracer provider of the program, or with a new one from the `OTEL_…` variables.

    If the variables name no exporter that can be used, return a `Tracing` that creates none.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        exporter = _exporter()
        if exporter is None:
            return Tracing()
        provider = TracerProvider(resource=Resource.create({SERVICE_VERSION: version("photojobs"), **_service_name()}))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
    return Spans(provider)


class Spans(Tracing):
    """Creates spans with a tracer provider of the OpenTelemetry SDK."""

    is_on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        # A tracer copies the provider's generator when it is created, so only our tracer gets the derived ids.
        before: IdGenerator = provider.id_generator
        provider.id_generator = _DerivedIds()
        self._tracer = provider.get_tracer("photojobs", version("photojobs"))
        provider.id_generator = before  # type: ignore[assignment]

    @contextmanager
    def job(self, job: Job) -> Iterator[JobSpan]:
        """Create the span of a job. If the job has a task, the span of its step is the parent."""
        context = Context()
        if job.task_id is not None:
            context = self._below(job.task_id, f"step {job.step_index} {job.type}")
        with self._tracer.start_as_current_span(
            f"job {job.type}", context=context, attributes=_attributes_of(job), record_exception=False
        ) as span:
            yield _JobSpan(span)

    def task_ended(self, summary: TaskSummary) -> None:
        """Create the spans of a task and of its steps that began and ended."""
        task = summary.task
        about = {
            "photojobs.task.id": task.id,
            "photojobs.task.type": task.type,
            "photojobs.task.status": task.status,
            "photojobs.tenant.id": task.tenant_id,
        }
        root = self._span(f"task {task.type}", task.id, "task", Context(), task.started_at or task.created_at, about)
        for step in summary.steps:
            if step.started_at is None or step.finished_at is None:
                continue
            name = f"step {step.step_index} {step.type}"
            counts = {f"photojobs.jobs.{status}": number for status, number in step.jobs.items()}
            counts |= {f"photojobs.items.{status}": number for status, number in step.items.items()}
            span = self._span(name, task.id, name, self._below(task.id, "task"), step.started_at, {**about, **counts})
            if step.jobs.get("failed"):
                span.set_status(Status(StatusCode.ERROR, "; ".join(step.errors[:3])))
            span.end(_nanoseconds(step.finished_at))
        if task.status != "completed":
            root.set_status(Status(StatusCode.ERROR, task.error_message or task.status))
        root.end(None if task.finished_at is None else _nanoseconds(task.finished_at))

    def close(self) -> None:
        """Export the remaining spans. The provider stays open."""
        self._provider.force_flush()

    def _span(
        self, name: str, task_id: str, part: str, context: Context, started_at: datetime, attributes: Attributes
    ) -> Span:
        token = _next_ids.set((_trace_id(task_id), _span_id(task_id, part)))
        try:
            return self._tracer.start_span(
                name, context=context, start_time=_nanoseconds(started_at), attributes=attributes
            )
        finally:
            _next_ids.reset(token)

    def _below(self, task_id: str, part: str) -> Context:
        trace_id = _trace_id(task_id)
        # The sampling decision is the same as for the root of the trace, so that no trace is exported in part.
        decision = self._provider.sampler.should_sample(Context(), trace_id, part).decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision == Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        parent = SpanContext(trace_id, _span_id(task_id, part), is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(NonRecordingSpan(parent), Context())


class _JobSpan(JobSpan):
    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, job: Job | None) -> None:
        if job is None:
            self._span.set_attribute("photojobs.job.status", "removed")
            return
        self._span.set_attribute("photojobs.job.status", "retrying" if job.status == "queued" else job.status)
        for name, number in job.report.get("counts", {}).items():
            self._span.set_attribute(f"photojobs.counts.{name}", number)
        if job.status == "failed" or (job.status == "queued" and job.error_message):
            self._span.set_status(Status(StatusCode.ERROR, job.error_message))


def _attributes_of(job: Job) -> Attributes:
    known: dict[str, str | int | None] = {
        "photojobs.job.id": job.id,
        "photojobs.job.type": job.type,
        "photojobs.job.priority": job.priority,
        "photojobs.job.attempt": job.attempts + 1,
        "photojobs.lane": lane_name(job.priority),
        "photojobs.tenant.id": job.tenant_id,
        "photojobs.task.id": job.task_id,
        "photojobs.project.id": job.project_id,
        "photojobs.chunk": job.chunk_index,
        "photojobs.items": job.progress_total,
    }
    return {name: value for name, value in known.items() if value is not None}


def _trace_id(task_id: str) -> int:
    # A UUID has the length of a trace id, but some of its bits are fixed. A sampler by ratio takes these bits for
    # random ones, so it would take none or all of the tasks.
    return int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:16])


def _span_id(task_id: str, part: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{task_id}/{part}".encode()).digest()[:8])


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000) * 1_000_000


def _service_name() -> dict[str, str]:
    return {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "photojobs"}


def _exporter() -> SpanExporter | None:
    name = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        logger.warning(
            'no spans are created: OTEL_TRACES_EXPORTER is "%s", which is not supported; set it to otlp or console',
            name,
        )
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        logger.warning(
            "no spans are created, because the exporter for OTLP is not installed. Install it with "
            "`pip install 'photojobs[otel]'`, or set OTEL_TRACES_EXPORTER=console"
        )
        return None
    is_limited = any(os.environ.get(variable) for variable in _TIMEOUT_VARIABLES)
    return OTLPSpanExporter(timeout=None if is_limited else EXPORT_SECONDS)
