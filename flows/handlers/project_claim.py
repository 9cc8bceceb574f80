"""Claims projects for a job. While a job has claimed a project, no other job that modifies files works on it.

`storage.queue.project_claims` decides when a project is free.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.queue.project_claims import claim_projects, release_projects

if TYPE_CHECKING:
    from flows.handlers.step_context import StepContext


@contextmanager
def claimed_projects(ctx: "StepContext", project_ids: Sequence[int]) -> Iterator[None]:
    """Wait until all of the projects are free, and claim them while the block runs.

    Raises:
        ClaimLost, StepTimeout, StopRequested: raised by `StepContext.checkpoint` during the wait.
    """
    job_id, token = ctx.job.id, ctx.claim.token
    while not claim_projects(
        ctx.database, project_ids, job_id=job_id, claim_token=token, stale_seconds=ctx.settings.stale_seconds
    ):
        ctx.checkpoint()
        ctx.claim.lost.wait(ctx.settings.poll_seconds)
    try:
        yield
    finally:
        release_projects(ctx.database, project_ids, claim_token=token)
