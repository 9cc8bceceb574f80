"""How jobs and tasks look in the cells of tables."""

from __future__ import annotations

from deployments.cli.terminal import duration
from storage.records import Job, Task


def progress_of(job: Job) -> str:
    """What is done, of all where that is known."""
    if job.progress_total is None:
        return str(job.progress_done or "")
    return f"{job.progress_done or 0}/{job.progress_total}"


def took(ended: Job | Task) -> str:
    """From the start to the end; empty before."""
    if ended.started_at is None or ended.finished_at is None:
        return ""
    return duration((ended.finished_at - ended.started_at).total_seconds())
