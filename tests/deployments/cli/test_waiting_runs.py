"""A run that cannot start a job says once what it waits for, and how to end the wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.output import progress
from deployments.cli.output.loudness import set_loudness
from flows.execution.plain_run import run_plainly
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.queue.holds import HoldsRepository
from storage.records import Job
from task_definitions import load_definitions
from tests.flows.conftest import quick_settings


@pytest.fixture
def runtime(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "WAIT_SECONDS", 0.0)
    settings = quick_settings(tmp_path)
    (settings.library_root / "user_0").mkdir()
    with Runtime(Database(sqlite_url), settings=settings) as opened, opened.as_current():
        yield opened


def held(kind: str) -> Callable[[Runtime, str], Callable[[], object]]:
    """Return a function that holds a task, its tenant or its lane, and returns the function that ends the hold."""

    def hold(runtime: Runtime, task_id: str) -> Callable[[], object]:
        name = {"task": task_id, "tenant": "user_0", "lane": "priority"}[kind]
        HoldsRepository(runtime.database).hold(kind, name, reason="look first")
        return lambda: HoldsRepository(runtime.database).release(kind, name)

    return hold


def full(runtime: Runtime, _task_id: str) -> Callable[[], object]:
    """Fill the lane with the job of another executor. Return the function that ends this job."""
    LanesRepository(runtime.database).change("priority", slots=1)
    jobs = JobsRepository(runtime.database)
    jobs.enqueue(tenant_id="other", type="metadata", priority=99)
    running: Job | None = jobs.claim_next("another executor", tenant_id="other")
    assert running is not None
    return lambda: jobs.complete(running.id, claim_token=running.claim_token)


@pytest.mark.parametrize(
    ("block", "is_quiet", "says"),
    [
        (held("task"), True, "photojobs release task the-task"),
        (held("tenant"), True, "The tenant user_0 has been held for"),
        (held("lane"), False, "photojobs release lane priority"),
        (full, False, "photojobs lanes set priority --slots N"),
    ],
    ids=["task", "tenant", "lane", "full"],
)
def test_a_run_says_once_what_it_waits_for_and_how_to_go_on(
    runtime: Runtime,
    block: Callable[[Runtime, str], Callable[[], object]],
    is_quiet: bool,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    definition = load_definitions()["folder_discovery"]
    TasksRepository(runtime.database).start(new_task(definition, task_id="the-task", tenant_id="user_0"))
    go_on = block(runtime, "the-task")
    looked = threading.Semaphore(0)
    explain = progress.explain_job

    def explain_and_count(*arguments: Any, **options: Any) -> Any:
        looked.release()
        return explain(*arguments, **options)

    def end_the_wait() -> None:
        for _ in range(2):
            assert looked.acquire(timeout=60)
        go_on()

    monkeypatch.setattr(progress, "explain_job", explain_and_count)
    set_loudness(quiet=is_quiet)
    ending = threading.Thread(target=end_the_wait)
    ending.start()
    try:
        with progress.following(runtime, "the-task", is_shown=False):
            summary = run_plainly("the-task", runtime)
    finally:
        set_loudness()
        ending.join()

    assert summary.task.status == "completed"
    [line] = capsys.readouterr().err.splitlines()
    assert line.removeprefix("photojobs: ").startswith("folder_discovery waits: ")
    assert says in line
