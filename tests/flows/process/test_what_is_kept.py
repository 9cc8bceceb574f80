"""A process keeps only counts and first names of its finished work, and no pictures or tasks."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.process.runtime import Runtime
from flows.testing import run_step
from tests.flows.conftest import add_photos, items_of


class Picture:
    """A simulated decoded picture."""


_pictures: list[weakref.ref[Picture]] = []
_alive: list[int] = []


@step("decode_and_fail", unit="items", modifies_files=False)
def decode_and_fail(ctx: StepContext) -> None:
    """Fails on each picture, and counts the pictures that are still in memory."""
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                _decode()
    gc.collect()
    _alive.append(sum(picture() is not None for picture in _pictures))


def _decode() -> None:
    picture = Picture()
    _pictures.append(weakref.ref(picture))
    raise OSError("cannot be read")


def test_a_failure_keeps_nothing_of_what_its_handler_held(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="photojobs")
    ids = add_photos(runtime.database, "01234")
    job = run_step(runtime, type="decode_and_fail", tenant_id="user_0", items=items_of(*ids))
    assert "5 of 5 photos failed; the first: 0" in str(job.error_message)
    assert _alive == [0]


def test_a_process_keeps_nothing_of_tasks_that_it_has_worked_on(runtime: Runtime) -> None:
    held = runtime.stopping("held")
    events: list[weakref.ref[threading.Event]] = []
    for number in range(50):
        with runtime.following(str(number)):
            events.append(weakref.ref(runtime.stopping(str(number))))
    gc.collect()
    assert [event() for event in events] == [None] * 50
    assert runtime.stopping("held") is held


def test_a_task_that_was_stopped_stays_stopped_for_what_still_runs_of_it(runtime: Runtime) -> None:
    with runtime.following("task"):
        runtime.stop_task("task")
    gc.collect()
    assert runtime.stopping("task").is_set()
    with runtime.following("task"):
        assert not runtime.stopping("task").is_set()
