"""A followed job comes to its end, also where the system has no room for another thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flows.execution.job_following import FollowedRun
from flows.process.runtime import Runtime
from storage import JobsRepository


@pytest.mark.parametrize("name", ["photojobs-following", "photojobs-run-"])
def test_a_thread_that_cannot_be_started_costs_the_job_nothing(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    errors = [RuntimeError("can't start new thread")]
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if errors and thread.name.startswith(name):
            raise errors.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")

    ended = runtime.follower.follow(job.id, FollowedRun(runtime)).result(60)

    assert ended is not None
    assert (ended.status, ended.attempts, errors) == ("completed", 0, [])
    assert stage.started == [("count", job.id)]
