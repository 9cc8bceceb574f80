"""Follows the jobs of a run in a rolling window: whenever some jobs end, the run follows the next jobs.

To follow a job is to wait for its end, in whichever process it runs. A run is a flow run, or a run without Prefect. The
setting `window_size` limits how many jobs a run follows at a time.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from flows.process.database_retry import retry_while_unavailable
from flows.process.followed_jobs import FollowedJobs
from flows.process.runtime import Runtime
from storage.queue.tasks import TasksRepository
from storage.records import Job, Task

#: Largest number of jobs that one run follows, including jobs that wait for another attempt or run in another process.
MOST_FOLLOWED = 500


class Future(Protocol):
    """The pending result of a job, which runs in this process or in another one."""

    def add_done_callback(self, fn: Any, /) -> None:
        """Call a function with the future when it ends."""


AnyFuture = TypeVar("AnyFuture", bound=Future)


class Source(ABC, Generic[AnyFuture]):
    """Provides the jobs that a run follows, and begins to follow them."""

    #: The longest time between two checks for room for new jobs. Room may appear although no followed job has ended: a
    #: followed job that becomes unable to begin takes no room.
    look_seconds: ClassVar[float] = 0.5

    @abstractmethod
    def read(self, room: int, followed: Mapping[int, AnyFuture]) -> Sequence[Job]:
        """Return the next jobs: up to `room` new jobs, and any number of jobs that are already in `followed`."""

    @abstractmethod
    def begin(self, jobs: Sequence[Job]) -> Iterable[AnyFuture]:
        """Start to follow these jobs. Return a future for each job, in the same order."""

    @abstractmethod
    def not_ready(self) -> int:
        """Return how many of the followed jobs cannot begin in this process now."""

    @abstractmethod
    def is_stopped(self) -> bool:
        """Return whether the run must begin no more jobs."""

    def note_ended(self, futures: Sequence[AnyFuture]) -> None:
        """Do nothing by default. The window calls this method with the futures of the jobs that have ended."""


class RollingWindow(Generic[AnyFuture]):
    """The jobs that a run follows now, with a future for each.

    Args:
        all_followed: the followed jobs of the process. The window passes the rows of new jobs to it in advance.
        size: how many jobs to follow at a time, without those that cannot begin in this process now. With those, the
            limit is `MOST_FOLLOWED`.
    """

    def __init__(self, all_followed: FollowedJobs, *, size: int) -> None:
        self._all_followed = all_followed
        self._size = min(size, MOST_FOLLOWED)
        self._followed: dict[int, AnyFuture] = {}
        # The ids of jobs that have ended, appended by the threads that end the futures.
        self._ended: deque[int] = deque()
        self._changed = threading.Event()

    @property
    def followed(self) -> Mapping[int, AnyFuture]:
        """The futures of the followed jobs, by job id."""
        return self._followed

    def follow(self, source: Source[AnyFuture]) -> None:
        """Follow the jobs of a source until it has no more jobs, or is stopped, and all followed jobs have ended."""
        while True:
            self._changed.clear()
            source.note_ended(self._take_ended())
            room = min(self._size + source.not_ready(), MOST_FOLLOWED) - len(self._followed)
            # A read waits until a quarter of the window is free, because each read also reads the followed jobs again.
            if 4 * room >= self._size and not source.is_stopped():
                found = source.read(room, self._followed)
                self._begin([job for job in found if job.id not in self._followed][:room], source)
            if not self._followed:
                return
            self._changed.wait(source.look_seconds)

    def _begin(self, new: Sequence[Job], source: Source[AnyFuture]) -> None:
        self._all_followed.announce(new)
        for job, future in zip(new, source.begin(new), strict=True):
            self._followed[job.id] = future
            future.add_done_callback(partial(self._note_end, job.id))

    def _note_end(self, job_id: int, _future: object) -> None:
        self._ended.append(job_id)
        self._changed.set()

    def _take_ended(self) -> list[AnyFuture]:
        ended = []
        while self._ended:
            job_id = self._ended.popleft()
            # If a Dask worker followed the job, this process has not used the row that was passed in advance, so the
            # row is forgotten now.
            self._all_followed.forget(job_id)
            ended.append(self._followed.pop(job_id))
        return ended


def follow_steps(
    task_id: str,
    runtime: Runtime,
    window: RollingWindow[AnyFuture],
    begin_step: Callable[[Task], StepSource[AnyFuture]],
    *,
    on_step_end: Callable[[Task, int], None] = lambda _task, _step_index: None,
) -> Task:
    """Follow the jobs of a task step by step until the task has ended or this process must stop. Return the task.

    Args:
        task_id: the task.
        runtime: the runtime of this process.
        window: follows the jobs.
        begin_step: returns the source of the task's current step.
        on_step_end: called with the task and the index of each step that has ended.
    """
    tasks = TasksRepository(runtime.database)
    stopping = runtime.stopping(task_id)
    step_index: int | None = None
    while True:
        task = retry_while_unavailable(lambda: tasks.settle(task_id), unless=stopping.is_set)
        if stopping.is_set() and not task.is_final:
            return task
        if step_index is not None and (task.is_final or task.step_index != step_index):
            retry_while_unavailable(partial(on_step_end, task, step_index), unless=stopping.is_set)
        if task.is_final:
            return task
        step_index = task.step_index
        window.follow(begin_step(task))


class StepSource(Source[AnyFuture]):
    """The unfinished jobs of a task's current step."""

    # The time between two reads while all unfinished jobs of the step are followed. This time can be long, because only
    # a retry adds jobs to a running step or sends the task back to an earlier step. In the second case, the followed
    # jobs wait for the jobs of the earlier step.
    read_again_seconds: ClassVar[float] = 5.0

    def __init__(self, task: Task, runtime: Runtime) -> None:
        self._task = task
        self._runtime = runtime
        self._stopping = runtime.stopping(task.id)
        self._read_again_at = 0.0

    def read(self, room: int, followed: Mapping[int, AnyFuture]) -> Sequence[Job]:
        """Return the next jobs in the order of their ids; none while all jobs of the step are known to be followed."""
        if followed and time.monotonic() < self._read_again_at:
            return ()
        tasks = TasksRepository(self._runtime.database)
        limit = room + len(followed)
        found = retry_while_unavailable(
            lambda: tasks.unfinished_jobs(self._task, limit=limit), unless=self._stopping.is_set
        )
        # Followed jobs may have ended since `limit` was computed. So only the number of new jobs shows whether the step
        # may have more new jobs.
        has_more = sum(job.id not in followed for job in found) >= room
        self._read_again_at = 0.0 if has_more else time.monotonic() + self.read_again_seconds
        return found

    def not_ready(self) -> int:
        """Return how many jobs run in another process, or wait for their next attempt or for earlier steps."""
        return len(self._runtime.followed.not_ready(self._task.id))

    def is_stopped(self) -> bool:
        """Return whether this process was asked to stop working on the task."""
        return self._stopping.is_set()
