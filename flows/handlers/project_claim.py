"""Claims projects for a job. While a job has claimed a project, no other job that modifies files works on it.

`storage.queue.project_claims` decides when a project is free. `StepContext.exclusively` in
`flows.handlers.step_context` decides which jobs claim projects.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.photos.project_labels import project_label
from storage.photos.projects import ProjectsRepository
from storage.queue.project_claims import claim_projects, claiming_jobs, release_projects
from task_definitions.wording import listed

if TYPE_CHECKING:
    from flows.handlers.step_context import StepContext

#: The logger of waits that users should know about.
logger = logging.getLogger("photojobs.waiting")

#: The time after which a wait for a project is logged. Most waits are shorter.
LOGGED_AFTER_SECONDS = 3.0


@contextmanager
def claimed_projects(ctx: "StepContext", project_ids: Sequence[int]) -> Iterator[None]:
    """Wait until all of the projects are free, and claim them while the block runs. A long wait is logged once.

    Raises:
        ClaimLost, StepTimeout, StopRequested: raised by `StepContext.checkpoint` during the wait.
    """
    job_id, token = ctx.job.id, ctx.claim.token
    logged_at = time.monotonic() + LOGGED_AFTER_SECONDS
    while not claim_projects(
        ctx.database, project_ids, job_id=job_id, claim_token=token, stale_seconds=ctx.settings.stale_seconds
    ):
        ctx.checkpoint()
        if time.monotonic() >= logged_at:
            logged_at = math.inf
            _log_wait(ctx, project_ids)
        ctx.claim.lost.wait(ctx.settings.poll_seconds)
    try:
        yield
    finally:
        release_projects(ctx.database, project_ids, claim_token=token)


def _log_wait(ctx: "StepContext", project_ids: Sequence[int]) -> None:
    with ctx.database.connect() as connection:
        labels = {one.id: project_label(one) for one in ProjectsRepository(connection).list(ids=project_ids)}
        holders = [(project_id, one) for project_id in labels for one in claiming_jobs(connection, project_id)]
    for project_id, holder in holders:
        logger.warning(
            "%s waits, because job %d uses project %s. `photojobs jobs why %d` explains what that job does, and "
            "`photojobs jobs cancel %d` cancels it.",
            *(ctx.job.type, holder, labels[project_id], holder, holder),
        )
    if labels and not holders:
        logger.warning(
            "%s waits, because an executor that has ended still claims project %s. The claim expires by itself, %d "
            "seconds after the last heartbeat of that executor.",
            *(ctx.job.type, listed(labels.values()), ctx.settings.stale_seconds),
        )
