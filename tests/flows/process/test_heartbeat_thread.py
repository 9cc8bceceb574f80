"""Heartbeats have the interval `heartbeat_seconds`, also if it is long, and lost claims are noticed."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from flows.process import heartbeat_thread
from flows.process.heartbeat_thread import Heartbeat
from flows.process.job_claim import JobClaim
from storage import Database, Job, JobsRepository
from storage.queue.project_claims import claim_projects


class Minutes(threading.Event):
    """A simulated clock for the thread: sleeps end at once, and after a simulated minute the thread ends."""

    def __init__(self, ended: threading.Event) -> None:
        super().__init__()
        self.now = 0.0
        self._ended = ended

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        if self.now >= 60:
            self._ended.set()
        return False


@pytest.mark.parametrize(("seconds", "waiting_seconds"), [(20.0, 5), (2.0, 2)])
def test_running_jobs_beat_as_often_as_the_setting_says_and_waiting_ones_at_least_every_five_seconds(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, seconds: float, waiting_seconds: int
) -> None:
    heartbeat = Heartbeat(sqlite_database, worker_id="w", interval_seconds=seconds, waiting=list)
    minutes = heartbeat._wake = Minutes(heartbeat._stopped)
    said: dict[str, list[float]] = {"running": [], "waiting": []}

    def note(what: str, answer: Any) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            said[what].append(minutes.now)
            return answer

        return call

    monkeypatch.setattr(heartbeat_thread, "time", SimpleNamespace(monotonic=lambda: minutes.now))
    monkeypatch.setattr("storage.lifecycle.heartbeats.write_heartbeats", note("running", set()))
    monkeypatch.setattr("storage.lifecycle.heartbeats.record_waiting", note("waiting", None))

    heartbeat._run()

    assert said == {
        "running": [float(moment) for moment in range(int(seconds), 61, int(seconds))],
        "waiting": [float(moment) for moment in range(waiting_seconds, 61, waiting_seconds)],
    }


def test_a_project_of_a_canceled_job_stays_held_while_its_handler_goes_on(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any
) -> None:
    project = make_project()
    first, second = [jobs.enqueue(tenant_id="t", type="x") and jobs.claim_next(name) for name in ("a", "b")]
    assert first is not None
    assert second is not None

    def hold(job: Job) -> bool:
        token = str(job.claim_token)
        return claim_projects(database, [project.id], job_id=job.id, claim_token=token, stale_seconds=60)

    assert hold(first)
    heartbeat = Heartbeat(database, worker_id="a", interval_seconds=3600.0, waiting=list)
    claim = JobClaim(database, first, trusted_seconds=7200, stopping=threading.Event())
    with heartbeat.for_claim(claim):
        jobs.cancel(first.id)
        for _ in range(3):
            clock.advance(seconds=40)
            heartbeat._write_for_running()
            assert claim.lost.is_set()
            assert not hold(second)
    heartbeat.close()
    clock.advance(seconds=61)
    assert hold(second)
