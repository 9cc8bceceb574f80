"""OpenTelemetry spans: a task with its steps and jobs is one trace, whichever processes its jobs ran in."""

from __future__ import annotations

import socket
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode, get_current_span

from flows.api.start import start_task
from flows.execution.worker import drain_queue
from flows.process.runtime import Runtime
from flows.telemetry.spans import Spans, _exporter
from flows.telemetry.tracing import EXPORTER_VARIABLES, open_tracing
from storage import JobsRepository, TasksRepository
from tests.flows.conftest import add_photos
from tests.loaded_packages import loaded_by


@pytest.fixture
def exported(runtime: Runtime) -> Iterator[InMemorySpanExporter]:
    """An exporter of the spans of the runtime, in place of the exporter of the process."""
    exporter = InMemorySpanExporter()
    runtime.tracing = Spans(provider_to(exporter))
    yield exporter
    exporter.shutdown()


def provider_to(exporter: InMemorySpanExporter, sampler: Sampler | None = None) -> TracerProvider:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def photo_ids(runtime: Runtime) -> list[int]:
    return add_photos(runtime.database, ("a", "b", "bad c"))


def start(define: Any, photo_ids: list[int]) -> str:
    definition = define(
        "two",
        {"type": "note", "priority": 95, "chunk_size": 1, "on_failure": "continue"},
        {"type": "count", "priority": 50},
    )
    return start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids]).task_id


def by_name(spans: tuple[ReadableSpan, ...]) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


def test_jobs_hang_below_their_steps_and_these_below_the_task(
    runtime: Runtime, exported: InMemorySpanExporter, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    start(define, photo_ids)

    drain_queue(runtime=runtime)

    spans = by_name(exported.get_finished_spans())
    assert {name: len(found) for name, found in spans.items()} == {
        "job note": 3,
        "job count": 1,
        "step 0 note": 1,
        "step 1 count": 1,
        "task two": 1,
    }
    (task,), (note,), (count,) = spans["task two"], spans["step 0 note"], spans["step 1 count"]
    assert len({span.context.trace_id for found in spans.values() for span in found}) == 1
    assert task.parent is None
    assert {span.parent.span_id for span in (note, count)} == {task.context.span_id}
    assert {span.parent.span_id for span in spans["job note"]} == {note.context.span_id}
    assert task.start_time <= note.start_time <= note.end_time <= count.end_time <= task.end_time


def test_what_failed_is_an_error_with_its_reason_and_says_whose_it_was(
    runtime: Runtime, exported: InMemorySpanExporter, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    start(define, photo_ids)

    drain_queue(runtime=runtime)

    spans = by_name(exported.get_finished_spans())
    (failed,) = (span for span in spans["job note"] if span.status.status_code == StatusCode.ERROR)
    assert "bad c: is bad" in failed.status.description
    assert failed.attributes["photojobs.job.status"] == "failed"
    assert (failed.attributes["photojobs.tenant.id"], failed.attributes["photojobs.lane"]) == ("user_0", "priority")
    assert spans["task two"][0].status.status_code == StatusCode.ERROR
    assert spans["step 1 count"][0].status.status_code == StatusCode.UNSET


def test_a_handler_that_makes_spans_of_its_own_finds_that_of_its_job(
    runtime: Runtime, exported: InMemorySpanExporter, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "flows.execution.job_run.handler_of",
        lambda _: lambda _: seen.append(get_current_span().get_span_context().span_id),
    )
    JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="count", scope="global")

    drain_queue(runtime=runtime)

    assert seen == [span.context.span_id for span in exported.get_finished_spans()]


def test_where_the_trace_is_not_sampled_no_part_of_it_is(
    runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    exporter = InMemorySpanExporter()
    runtime.tracing = Spans(provider_to(exporter, ALWAYS_OFF))
    task_id = start(define, photo_ids)

    drain_queue(runtime=runtime)

    assert TasksRepository(runtime.database).get(task_id).is_final
    assert exporter.get_finished_spans() == ()


def test_of_tasks_with_uuids_a_sampler_by_ratio_takes_its_share(runtime: Runtime) -> None:
    exporter, random = InMemorySpanExporter(), Random(1)
    spans = Spans(provider_to(exporter, ParentBased(TraceIdRatioBased(0.5))))
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="count", scope="global")

    for _ in range(100):
        task_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        with spans.job(replace(job, task_id=task_id)):
            pass

    assert 30 < len(exporter.get_finished_spans()) < 70


def test_a_process_does_not_wait_long_for_a_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.telemetry.spans.EXPORT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
        provider.get_tracer("test").start_span("job").end()
        began = time.monotonic()
        Spans(provider).close()
        assert time.monotonic() - began < 5
        provider.shutdown()


def test_a_provider_keeps_its_own_ids_for_the_spans_of_others() -> None:
    provider = provider_to(InMemorySpanExporter())
    before = provider.id_generator

    Spans(provider)

    assert provider.id_generator is before


def test_nobody_asked_and_nothing_of_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from flows.telemetry.tracing import open_tracing\nassert not open_tracing().is_on"
    for name in EXPORTER_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    assert loaded_by(program, "opentelemetry", "prefect") == []


def test_a_missing_sdk_is_said_and_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "flows.telemetry.spans", None)

    assert not open_tracing().is_on
    assert "pip install 'photojobs[otel]'" in caplog.text
