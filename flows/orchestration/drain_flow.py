"""The Prefect flow that runs the queued standalone jobs, which belong to no task.

`deployments.serving.drain_requests` requests a run of this flow if standalone jobs wait.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.execution.rolling_window import MOST_FOLLOWED, RollingWindow, Source
from flows.execution.sweep import sweep
from flows.orchestration.cancellation_watch import CancellationWatch
from flows.orchestration.job_task import task_for
from flows.orchestration.job_task_runner import JobTaskRunner
from flows.orchestration.supervision import watch_supervisor
from flows.process.database_retry import retry_while_unavailable
from flows.process.runtime import Runtime
from flows.starting.deployment_names import task_run_position
from storage import records
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository
from storage.records import Job
from task_definitions.wording import quantity

Lane = Annotated[str | None, Field(title="Lane", description="Only jobs of this lane; empty means every lane.")]
Tenant = Annotated[str | None, Field(title="Tenant", description="Only this tenant's jobs; empty means every tenant.")]


@flow(
    name="drain_queue",
    description="Drain Queue\n\nRuns the queued jobs that belong to no task.",
    task_runner=JobTaskRunner(),
    persist_result=False,
)
def drain_queue_flow(lane: Lane = None, tenant_id: Tenant = None) -> State[Any]:
    """Run the queued standalone jobs, the best of each lane first, until no job is left that may run now."""
    settings = Runtime.current_settings()
    watch_supervisor(end_within_seconds=settings.drain_seconds)
    runtime = retry_while_unavailable(Runtime.current, give_up_seconds=settings.stale_seconds)
    sweep(runtime)
    lanes = LanesRepository(runtime.database)
    served = lanes.list() if lane is None else [lanes.get(lane)]
    with (
        runtime.following(None),
        CancellationWatch(
            flow_run.id, lambda: runtime.stop_task(None), pause=lambda _is_to_end: runtime.stop_task(None)
        ) as watch,
    ):
        queue = _StandaloneJobs(runtime, served, tenant_id)
        try:
            RollingWindow["PrefectFuture[Any]"](runtime.followed, size=MOST_FOLLOWED).follow(queue)
        except BaseException:
            runtime.stop_task(None)
            raise
        is_stopped = queue.is_stopped()
    if watch.suspended is not None:
        raise Pause(state=watch.suspended)
    counts = [f"{quantity(count, 'job')} {name}" for name, count in sorted(queue.ended.items())]
    message = ", ".join(counts) or ("no job ended" if is_stopped else "no job was waiting")
    if is_stopped:
        return Cancelled(message=f"{message}; unfinished jobs stay in the queue")
    if queue.ended["failed"]:
        return Failed(message=f"{message}; `photojobs jobs list --status failed` shows the reasons")
    return Completed(message=message)


class _StandaloneJobs(Source["PrefectFuture[Any]"]):
    """The standalone jobs that may run now, the best of each lane first. Each is followed once.

    A worker claims the best job of a lane without knowing the job before. This flow must know each job before a claim,
    because each job gets a task run first. The task run also represents later attempts of the job.
    """

    def __init__(self, runtime: Runtime, lanes: Sequence[records.Lane], tenant_id: str | None) -> None:
        self._runtime = runtime
        self._lanes = lanes
        self._tenant_id = tenant_id
        self._stopping = runtime.stopping(None)
        self._seen: dict[int, int] = {}
        self._job_ids: dict[UUID, int] = {}
        #: How many jobs ended, by status; `removed` if the row no longer exists.
        self.ended = Counter[str]()

    def read(self, room: int, followed: Mapping[int, PrefectFuture[Any]]) -> list[Job]:
        """Return up to `room` next jobs. Each lane has its own limit of followed jobs, so a full lane delays no other.

        A followed job that cannot begin now does not count towards the limit of its lane. A lane at its limit still
        offers its best job.
        """
        size = self._runtime.settings.window_size
        can_begin = followed.keys() - self._runtime.followed.not_ready(None)
        found: list[Job] = []
        for lane in self._lanes:
            own = sum(lane.covers(self._seen[job_id]) for job_id in can_begin)
            new = max(1, size - own)
            ready = JobsRepository(self._runtime.database).list_ready(
                limit=new + own,
                tenant_id=self._tenant_id,
                standalone=True,
                min_priority=lane.min_priority,
                max_priority=lane.max_priority,
            )
            found += [job for job in ready if job.id not in self._seen][:new]
        return found[:room]

    def begin(self, jobs: Sequence[Job]) -> Iterator[PrefectFuture[Any]]:
        """Submit a Prefect task run for each job."""
        self._seen |= {job.id: job.priority for job in jobs}
        for job in jobs:
            future = task_for(job).submit(job.id, task_run_position(job))
            self._job_ids[future.task_run_id] = job.id
            yield future

    def not_ready(self) -> int:
        """Return 0, because `read` limits how many jobs are followed."""
        return 0

    def note_ended(self, futures: Sequence[PrefectFuture[Any]]) -> None:
        """Count the jobs that ended. A job that this process no longer follows, and that has not ended, is left out."""
        canceled = []
        for future in futures:
            # The task run has ended, but the future reads the final state only in `wait`.
            future.wait()
            job_id = self._job_ids.pop(future.task_run_id)
            if future.state.is_cancelled():
                canceled.append(job_id)
            else:
                self.ended[future.state.type.value.lower()] += 1
        if canceled:
            # The task run of an unfinished job is also canceled if this process stops following the job.
            jobs = JobsRepository(self._runtime.database)
            rows = retry_while_unavailable(partial(jobs.get_many, canceled), unless=self._stopping.is_set)
            left = {job_id for job_id, row in rows.items() if not row.is_final}
            self.ended.update(rows[id_].status if id_ in rows else "removed" for id_ in canceled if id_ not in left)

    def is_stopped(self) -> bool:
        """Return whether this process was asked to stop working on standalone jobs."""
        return self._stopping.is_set()
