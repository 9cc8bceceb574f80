"""Functions for tests of handlers: they run one job in the calling thread, without Prefect and without a worker."""

from collections.abc import Iterable, Mapping
from typing import Any

from flows.execution.job_run import run_claimed_job
from flows.process.runtime import Runtime
from storage.queue.claims import Claimant, claim_by_id, new_worker_id
from storage.queue.jobs import JobsRepository
from storage.records import Job


def run_step(
    runtime: Runtime,
    *,
    type: str,
    tenant_id: str,
    project_id: int | None = None,
    scope: str | None = None,
    items: Iterable[Mapping[str, Any]] | None = None,
    payload: Mapping[str, Any] | None = None,
) -> Job:
    """Enqueue a job of a step type, run it, and return its row after the run.

    A failed job raises no error: check `job.status` and `job.error_message`. If another attempt may succeed, the status
    is `queued`.
    """
    jobs = JobsRepository(runtime.database)
    arguments: dict[str, Any] = {
        "tenant_id": tenant_id,
        "type": type,
        "project_id": project_id,
        "scope": scope,
        "payload": payload,
    }
    queued = jobs.enqueue(**arguments) if items is None else jobs.enqueue_with_items(**arguments, items=items)
    assert isinstance(queued, Job)  # noqa: S101 - without `auto_chunk`, both calls return one job.
    return run_queued_job(runtime, queued.id)


def run_queued_job(runtime: Runtime, job_id: int) -> Job:
    """Claim the queued job with this id, even if other jobs come first, run it, and return its row after the run."""
    with runtime.database.begin() as connection:
        claimant = Claimant(worker_id=new_worker_id("test"), now=runtime.database.clock())
        claimed = claim_by_id(connection, claimant, job_id)
    if claimed is None:
        raise AssertionError(f"job {job_id} cannot be run, because it is not queued")
    ended = run_claimed_job(claimed, runtime)
    assert ended is not None  # noqa: S101 - no other process removes the row of a job under test.
    return ended
