"""A job ends even if its result cannot be stored, or if its handler raises an error of an executor."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flows.errors import ClaimLost, StepTimeout, StopRequested
from flows.execution.sweep import sweep
from flows.execution.worker import Worker
from flows.handlers.job_report import Report
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.process.runtime import Runtime
from storage import Database, JobsRepository
from storage.errors import ConstraintViolated, InvalidValue
from storage.records import Job
from tests.flows.conftest import quick_settings
from tests.waiting import wait_until


class Unprintable(Exception):
    """An error that cannot be converted to a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISED: dict[str, BaseException] = {
    "own timeout": StepTimeout("the camera did not answer in time"),
    "own claim lost": ClaimLost("the tripod is gone"),
    "own stop": StopRequested("the light is gone"),
    "canceled coroutine": asyncio.CancelledError("no more"),
    "interrupt in a thread": KeyboardInterrupt("no key was pressed"),
    "generator": GeneratorExit("closed"),
    "unprintable": Unprintable(),
}


@step("count_wrongly", unit="library", modifies_files=False)
def count_wrongly(ctx: StepContext) -> None:
    """Puts a value into its report that no database can store, without any check."""
    ctx.report.counts["photos"] = {"nan": float("nan"), "huge": 10**400, "set": {1}}[ctx.payload["value"]]  # type: ignore[assignment]


@step("name_wrongly", unit="library", modifies_files=False)
def name_wrongly(ctx: StepContext) -> None:
    """Puts a name into its report that no database can store, without any check."""
    ctx.report.examples["removed"] = [str(ctx.payload["value"]).replace("NUL", "\0").replace("HALF", "\ud800")]


@step("raise_it", unit="library", modifies_files=False)
def raise_it(ctx: StepContext) -> None:
    """Raises the error that the payload names."""
    raise RAISED[ctx.payload["what"]]


@step("go_on", unit="library", modifies_files=False)
def go_on(ctx: StepContext) -> None:
    """Does nothing."""


@pytest.fixture
def each_runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime on each kind of database, with the system's clock."""
    database = Database(database_url)
    settings = quick_settings(tmp_path, heartbeat_seconds=0.05, stale_seconds=0.5, max_attempts=2, concurrency=1)
    with Runtime(database, settings=settings) as opened, opened.as_current():
        yield opened


def work_until_ended(runtime: Runtime, type: str, payload: dict[str, Any] | None = None) -> Job:
    """Let a worker run a job of this type to its end; return the ended job."""
    jobs = JobsRepository(runtime.database)
    queued = jobs.enqueue(tenant_id="t", type=type, scope="global", payload=payload)
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()

    def ended() -> Job | None:
        job = jobs.get_by_id(queued.id)
        return job if job is not None and job.is_final else None

    try:
        return wait_until(ended, what=f"the job {type} {payload} has ended", limit_seconds=60)
    finally:
        worker.stop_now()
        thread.join(60)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("count_wrongly", "nan"),
        ("count_wrongly", "huge"),
        ("count_wrongly", "set"),
        ("name_wrongly", "a NUL in it"),
        ("name_wrongly", "HALF a pair"),
    ],
)
def test_a_result_that_cannot_be_stored_is_a_failure_with_the_reason(
    each_runtime: Runtime, type: str, value: str
) -> None:
    job = work_until_ended(each_runtime, type, {"value": value})

    if (type, value) == ("count_wrongly", "huge"):
        assert job.status == "completed" or "could not be stored" in str(job.error_message)
        return
    # The job fails at once, because another attempt would have the same result.
    assert (job.status, job.attempts) == ("failed", 0)
    assert str(job.error_message).startswith("the job ran, but its end could not be stored: result: ")
    assert job.result == {}


@pytest.mark.parametrize("what", RAISED)
def test_whatever_a_handler_raises_costs_its_job_an_attempt(each_runtime: Runtime, what: str) -> None:
    job = work_until_ended(each_runtime, "raise_it", {"what": what})

    assert (job.status, job.attempts) == ("failed", 1)
    expected = "Unprintable" if what == "unprintable" else str(RAISED[what])
    assert expected in str(job.error_message)


def test_an_end_that_a_rule_of_the_database_refuses_is_a_failure_with_the_reason(each_runtime: Runtime) -> None:
    database = each_runtime.database
    with database.begin() as connection:
        if database.is_postgresql:
            connection.execute(text("ALTER TABLE jobs ADD CHECK (status <> 'completed')"))
        else:
            connection.execute(
                text(
                    "CREATE TRIGGER never BEFORE UPDATE ON jobs WHEN NEW.status = 'completed' "
                    "BEGIN SELECT RAISE(ABORT, 'never completed'); END"
                )
            )

    job = work_until_ended(each_runtime, "go_on")

    assert (job.status, job.attempts) == ("failed", 0)
    assert str(job.error_message).startswith("the job ran, but its end could not be stored: ")


def test_a_job_whose_end_was_not_written_costs_an_attempt_and_is_told_of_once(
    each_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    claim = JobsRepository.claim
    monkeypatch.setattr(JobsRepository, "retry_later", refuse)
    monkeypatch.setattr(
        JobsRepository, "claim", lambda *arguments, **more: (refuse if more["ended"] else claim)(*arguments, **more)
    )

    with caplog.at_level(logging.WARNING):
        job = work_until_ended(each_runtime, "go_on")

    assert (job.status, job.attempts) == ("failed", 1)
    assert "a defect" in str(job.error_message)
    assert not [record for record in caplog.records if "never got the database's answer" in record.getMessage()]


def test_a_claim_whose_answer_got_lost_costs_no_attempt(each_runtime: Runtime) -> None:
    jobs = JobsRepository(each_runtime.database)
    queued = jobs.enqueue(tenant_id="t", type="go_on", scope="global")
    claimed = jobs.claim_next(each_runtime.worker_id)
    assert claimed is not None
    wait_until(lambda: sweep(each_runtime) and _status(jobs, queued) == "queued", what="the claim is given back")
    assert jobs.get_by_id(queued.id).attempts == 0  # type: ignore[union-attr]


def _status(jobs: JobsRepository, job: Job) -> str:
    found = jobs.get_by_id(job.id)
    assert found is not None
    return found.status


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), "many", None, 10**400])
def test_a_report_refuses_a_number_that_cannot_be_stored(number: Any) -> None:
    report = Report()
    for call in (report.count, report.took):
        with pytest.raises(InvalidValue, match="photos"):
            call("photos", number)
    assert report.to_json() == {}


@pytest.mark.parametrize("call", ["count", "example", "fail", "leave", "enter_project", "took"])
def test_a_report_refuses_a_name_with_a_nul_character(call: str) -> None:
    report = Report()
    calls = {
        "count": lambda: report.count("re\0moved"),
        "example": lambda: report.count("removed", example="a\0b"),
        "fail": lambda: report.fail("a\0b", "is bad"),
        "leave": lambda: report.leave("a\0b", "is new"),
        "enter_project": lambda: report.enter_project("a\0b"),
        "took": lambda: report.took("a\0b", 60.0),
    }
    with pytest.raises(InvalidValue, match="NUL"):
        calls[call]()
    assert report.to_json() == {}


def test_a_report_shows_reasons_that_hold_what_cannot_be_stored() -> None:
    report = Report()
    report.fail("a.jpg", "no such file: \udce9\0.jpg")
    assert "\0" not in str(report.to_json())
    assert "\udce9" not in str(report.to_json())


@pytest.mark.parametrize("done", [float("nan"), -1, 2**31, "half"])
def test_progress_that_cannot_be_stored_is_refused_at_the_call(each_runtime: Runtime, done: Any) -> None:
    raised: list[BaseException] = []

    @step("go_too_far", unit="library", modifies_files=False)
    def go_too_far(ctx: StepContext) -> None:
        try:
            ctx.progress(done)
        except InvalidValue as error:
            raised.append(error)

    job = work_until_ended(each_runtime, "go_too_far")

    assert job.status == "completed"
    assert len(raised) == 1


def test_a_value_that_breaks_a_limit_of_the_server_is_a_value_that_cannot_be_stored(
    postgresql_database: Database,
) -> None:
    with pytest.raises(InvalidValue), postgresql_database.begin() as connection:
        connection.execute(text("SELECT repeat('[', 100000)::jsonb"))


def test_constraints_stay_an_error_of_their_own(each_runtime: Runtime) -> None:
    jobs = JobsRepository(each_runtime.database)
    first = jobs.enqueue(tenant_id="t", type="go_on", scope="global", unique_key="k")
    jobs.cancel(first.id)
    jobs.enqueue(tenant_id="t", type="go_on", scope="global", unique_key="k")
    with pytest.raises(ConstraintViolated):
        jobs.requeue(first.id)
