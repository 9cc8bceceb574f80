"""The queue of standalone jobs as a Prefect flow: from `enqueue`, from other programs, from work that died half-way."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.cancellation_watch import CancellationWatch
from flows.dispatcher import WAITING_THREADS
from flows.job_task import task_for
from flows.mapped_runs import waiting_threads
from flows.runtime import Runtime
from flows.supervision import watch_supervisor
from flows.sweep import sweep
from flows.tag_limits import TagLimits
from storage import heartbeats
from storage.jobs import JobsRepository
from storage.lanes import LanesRepository
from storage.records import Job

Lane = Annotated[str | None, Field(title="Lane", description="Only jobs of this lane; empty means every lane.")]
Tenant = Annotated[str | None, Field(title="Tenant", description="Only this tenant's jobs; empty means everybody's.")]


@flow(
    name="drain_queue",
    description="Drain Queue\n\nWorks off the jobs that wait and that no task of a running flow is attending to.",
    task_runner=waiting_threads(),
    persist_result=False,
)
def drain_queue_flow(lane: Lane = None, tenant_id: Tenant = None) -> State[Any]:
    """Run the jobs that wait, the best of each lane first, until nothing is left that may run now."""
    watch_supervisor(end_within_seconds=Runtime.current_settings().drain_seconds)
    runtime = Runtime.current()
    sweep(runtime)
    lanes = LanesRepository(runtime.database)
    bounds = None if lane is None else lanes.get(lane)
    ended: dict[str, int] = {}
    seen: set[int] = set()
    with (
        runtime.following(None),
        CancellationWatch(
            flow_run.id, lambda: runtime.stop_task(None), pause=lambda _is_to_end: runtime.stop_task(None)
        ) as watch,
        TagLimits() as limits,
    ):
        stopping = runtime.stopping(None)
        while not stopping.is_set():
            window = JobsRepository(runtime.database).list_ready(
                limit=runtime.settings.window_size,
                tenant_id=tenant_id,
                standalone=True,
                min_priority=None if bounds is None else bounds.min_priority,
                max_priority=None if bounds is None else bounds.max_priority,
            )
            window = [job for job in window if job.id not in seen]
            if not window:
                break
            seen.update(job.id for job in window)
            for future in _run(window, runtime, limits):
                name = future.state.type.value.lower()
                ended[name] = ended.get(name, 0) + 1
    if watch.suspended is not None:
        raise Pause(state=watch.suspended)
    message = ", ".join(f"{count} {name}" for name, count in sorted(ended.items())) or "nothing was waiting"
    if stopping.is_set():
        return Cancelled(message=f"{message}; what was not completed stays in the queue")
    return Failed(message=message) if ended.get("failed") else Completed(message=message)


def _run(window: list[Job], runtime: Runtime, limits: TagLimits) -> list[PrefectFuture[Any]]:
    runs = [(job, task_for(job.type, priority=job.priority, tags=(f"tenant:{job.tenant_id}",))) for job in window]
    limits.ask_ahead(run.tags for _, run in runs)
    # Before their threads are there: the best of them goes first, not the one whose thread is the quickest.
    heartbeats.attend(runtime.database, [job.id for job in window], worker_id=runtime.worker_id)
    runtime.dispatcher.expect([job.id for job in window][:WAITING_THREADS])
    try:
        futures = [run.submit(job.id, f"#{job.id}") for job, run in runs]
        wait(futures)
    except BaseException:
        runtime.stop_task(None)
        raise
    return futures
