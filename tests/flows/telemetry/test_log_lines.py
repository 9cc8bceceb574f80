"""Structured logs: one JSON object a line, each with the task, the job and the tenant that it is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from flows.api.start import start_task
from flows.execution.worker import drain_queue
from flows.process.runtime import Runtime
from flows.telemetry.log_fields import FIELDS
from flows.telemetry.log_lines import structure_logs
from storage import Database, JobsRepository
from tests.flows.conftest import add_photos, items_of, quick_settings


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """The log lines of the process; its logging configuration is restored afterwards."""
    ours = logging.getLogger("photojobs")
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(ours, "propagate", True)
    level = ours.level
    # So that it is removed again from the environment, which belongs to the whole process.
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER", "standard")
    yield StringIO()
    ours.setLevel(level)


@pytest.fixture
def json_runtime(tmp_path: Path, written: StringIO) -> Iterator[Runtime]:
    settings = quick_settings(tmp_path, log_format="json")
    database = Database(tmp_path / "photojobs.db")
    database.migrate()
    structure_logs(settings, handler=logging.StreamHandler(written))
    with Runtime(database, settings=settings) as opened, opened.as_current():
        yield opened


def lines(written: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_every_line_of_a_job_names_its_task_its_number_and_its_tenant(
    json_runtime: Runtime, written: StringIO, stage: Any, define: Any
) -> None:
    photo_ids = add_photos(json_runtime.database, ("good", "bad\n{}", "bad\u2028<script>"))
    definition = define("one", {"type": "note", "priority": 95})
    started = start_task(type=definition, tenant_id="user_0", items=items_of(*photo_ids))

    drain_queue(runtime=json_runtime)

    found = lines(written)
    (job_id,) = started.job_ids
    assert all(set(FIELDS) <= line.keys() for line in found)
    of_job = [line for line in found if line["job_id"] == job_id]
    assert {(line["task_id"], line["tenant_id"], line["job_type"]) for line in of_job} == {
        (started.task_id, "user_0", "note")
    }
    assert [line["event"]["name"] for line in of_job if "event" in line] == [
        "photojobs.job.running",
        "photojobs.job.failed",
    ]
    assert [line["message"] for line in of_job if line["logger"] == "photojobs.steps.note"] == [
        "bad\n{}: is bad",
        "bad\u2028<script>: is bad",
    ]


def test_a_traceback_stays_inside_its_line(json_runtime: Runtime, written: StringIO) -> None:
    try:
        raise RuntimeError("odd")
    except RuntimeError:
        logging.getLogger("photojobs.flows").exception("broke off")

    (line,) = lines(written)
    assert (line["level"], line["message"], line["job_id"], line["tenant_id"]) == ("error", "broke off", None, None)
    assert "RuntimeError: odd" in line["traceback"]


def test_text_stays_the_default_and_leaves_logging_alone(runtime: Runtime, stage: Any, written: StringIO) -> None:
    structure_logs(runtime.settings, handler=logging.StreamHandler(written))
    JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="count", scope="global")

    drain_queue(runtime=runtime)

    assert written.getvalue() == ""
    assert logging.getLogger("photojobs").handlers == []
