"""Stores which job the current thread runs, for its log lines and spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from storage.records import Job

_job: ContextVar[Job | None] = ContextVar("photojobs_job_at_work", default=None)


def job_at_work() -> Job | None:
    """Return the job that the current thread runs, or None."""
    return _job.get()


@contextmanager
def at_work_on(job: Job) -> Iterator[None]:
    """Set the job that the current thread runs while the block runs."""
    token = _job.set(job)
    try:
        yield
    finally:
        _job.reset(token)
