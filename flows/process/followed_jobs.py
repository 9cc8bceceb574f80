"""Follows jobs: waits for the end of each job. A job runs in this process when it gets a slot, or in another process.

One executor runs the followed jobs of a process. The setting `concurrency` limits how many of them run at a time, and
their rank (see `storage.queue.exchange_statements`) decides which run first. A job that waits takes no thread.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future

from flows.process.executor import EndWriter, Executor
from flows.process.job_follower import Followed, JobFollower
from flows.telemetry.log_fields import about_job
from storage.database.answer_watch import wait_for_end
from storage.database.engine import Database
from storage.errors import DatabaseFault, StorageError
from storage.lifecycle import heartbeats
from storage.lifecycle.state_machine import HELD_BY_STEPS
from storage.queue.claims import rank
from storage.queue.exchange import End, Exchanged, Wanted
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository
from storage.queue.wakeups import Wakeups
from storage.records import Job, Lane
from storage.settings import Settings

logger = logging.getLogger("photojobs.following")

#: How long the bounds of the lanes are cached. Their slots are read at every claim.
LANES_SECONDS = 5.0


class FollowedJobs:
    """The jobs that a process follows, and the source of the executor that runs them.

    While a job is followed, the executor runs in a separate thread.

    Args:
        database: the database with the jobs.
        settings: the settings of the process.
        worker_id: the id under which this process claims.
        wakeups: wakes the executor.
        stopping: returns, for the id of a task, the event that is set when the process must stop working on the task.
            The id None stands for the standalone jobs.
        on_followed: called each time before this process begins to follow a job.
    """

    def __init__(
        self,
        database: Database,
        *,
        settings: Settings,
        worker_id: str,
        wakeups: Wakeups,
        stopping: Callable[[str | None], threading.Event],
        on_followed: Callable[[], None],
    ) -> None:
        self._database = database
        self._jobs = JobsRepository(database)
        self._settings = settings
        self._worker_id = worker_id
        self._wakeups = wakeups
        self._stopping = stopping
        self._on_followed = on_followed
        self._lock = threading.Lock()
        self._announced: dict[int, Job] = {}
        #: The jobs that wait for their turn here, or run in another process.
        self._waiting: dict[int, list[Followed]] = {}
        #: The claimed jobs, by claim token.
        self._claimed: dict[str, Followed] = {}
        #: The ids of the jobs for which this process keeps the next slots.
        self._next_in_line: set[int] = set()
        #: The ids of the jobs that cannot begin now: they run in another process, their next attempt is not due, or
        #: they wait for earlier steps of their task.
        self._not_ready: set[int] = set()
        self._looked_at = -math.inf
        self._due_at = math.inf
        self._lanes: Sequence[Lane] = ()
        self._lanes_read_at = -math.inf
        self._is_closed = False
        self._executor: Executor | None = None
        self._thread: threading.Thread | None = None

    def announce(self, jobs: Iterable[Job]) -> None:
        """Keep the rows of jobs that the caller is about to follow, so that they are not read again."""
        with self._lock:
            self._announced |= {job.id: job for job in jobs}

    def forget(self, job_id: int) -> None:
        """Drop a row that `announce` kept and `follow` did not use, because a Dask worker followed the job."""
        with self._lock:
            self._announced.pop(job_id, None)

    def follow(self, job_id: int, follower: JobFollower) -> Future[Job | None]:
        """Follow a job to its end. The result of the future is the row of the job, or None if the row was removed.

        The row is not final if this process stopped waiting before the job ended; the result is None if this process
        had not read the row by then. The handler runs in a copy of the caller's context variables. While the database
        is unavailable, the wait goes on.
        """
        with self._lock:
            job = self._announced.pop(job_id, None)
        self._on_followed()
        followed = Followed(job_id, follower)
        self._wait(followed, job)
        return followed.future

    def next_in_line(self) -> list[int]:
        """Return the ids of the queued jobs for which this process keeps the next slots free from other jobs."""
        with self._lock:
            return [job_id for job_id in self._next_in_line if job_id in self._waiting]

    def not_ready(self, task_id: str | None) -> set[int]:
        """Return the ids of the waiting jobs of a task that cannot begin in this process now.

        Such a job runs in another process, its next attempt is not due yet, or it waits for earlier steps of its task.
        If `task_id` is None, the result has the ids of standalone jobs.
        """
        with self._lock:
            return {job_id for job_id in self._not_ready & set(self._waiting) if self._is_of(task_id, job_id)}

    def look_now(self) -> None:
        """Check at once which of the waiting jobs have ended."""
        self._looked_at = -math.inf
        self._wakeups.notify()

    def abandon(self, task_id: str | None) -> None:
        """Stop waiting for the jobs of a task, or for the standalone jobs if `task_id` is None.

        The caller must have set the event that `stopping` returns for the task. The rows of the jobs do not change, and
        the jobs no longer keep jobs of lower ranks from being claimed.
        """
        with self._lock:
            job_ids = [job_id for job_id in self._waiting if self._is_of(task_id, job_id)]
        self._dismiss(job_ids)

    def close(self) -> None:
        """Stop waiting for all jobs, and end the executor."""
        with self._lock:
            self._is_closed = True
            job_ids = list(self._waiting)
            executor, thread = self._executor, self._thread
        self._dismiss(job_ids)
        if executor is not None and thread is not None:
            executor.stop()
            self._wakeups.notify()
            wait_for_end(thread)

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Write the ends of jobs, and claim the best waiting jobs for which their lanes have free slots."""
        with self._lock:
            job_ids = list(self._waiting) if limit > 0 else []
        if not ended and not job_ids:
            self._keep_slots(0)
            return Exchanged(ended=(), claimed=())
        try:
            wanted = Wanted(lanes=[lane.name for lane in self._known_lanes()], job_ids=job_ids)
            limit = limit if job_ids else 0
            exchanged = self._jobs.claim(self._worker_id, wanted, limit=limit, ended=ended)
        except DatabaseFault:
            raise
        except Exception:
            if ended:
                raise
            # The error is not raised, because it would end the executor, and no waiting job of this process would run.
            logger.exception("the waiting jobs of this process could not be claimed; this process tries again")
            return Exchanged(ended=(), claimed=())
        claimed = [job for job in exchanged.claimed if self._takes(job)]
        self._keep_slots(limit - len(claimed))
        return Exchanged(ended=exchanged.ended, claimed=tuple(claimed))

    def seconds_to_wait(self, *, has_room: bool) -> float:
        """Read the rows of new jobs. Every `poll_seconds`, and when a delayed job is due, read the states of all jobs.

        Returns:
            The seconds until the next read is due. 0 if there were new jobs, because they can be claimed now; infinite
            after an unexpected error.
        """
        with self._lock:
            new = [job_id for job_id, waiters in self._waiting.items() if waiters[0].job is None]
        try:
            if new:
                self._note_rows(new)
            if time.monotonic() >= self._next_look_at():
                self._look_at_states()
        except DatabaseFault:
            raise
        except Exception:
            # The error is not raised, because it would end the executor, and no waiting job of this process would run.
            logger.exception("the states of the jobs that this process waits for could not be read; it tries again")
            return math.inf
        return 0.0 if new else max(0.0, self._next_look_at() - time.monotonic())

    def is_over(self) -> bool:
        """Return whether no job waits, or `close` was called. If so, forget the executor, which then ends.

        The next followed job starts a new executor.
        """
        with self._lock:
            if self._waiting and not self._is_closed:
                return False
            self._executor = self._thread = None
            return True

    def run(self, job: Job, write_end: EndWriter) -> None:
        """Run a claimed job in the context of the caller of `follow`."""
        followed = self._claimed[str(job.claim_token)]
        try:
            # The context is copied, because the thread of the previous attempt may still run in it.
            followed.context.copy().run(self._run, followed, job, write_end)
        finally:
            self._claimed.pop(str(job.claim_token), None)

    def give_back(self, job: Job) -> None:
        """Queue a claimed job again, and wait for it."""
        self._hand_back(job)
        self._wait(self._claimed.pop(str(job.claim_token)), job)

    def stop_running(self) -> None:
        """Make running handlers stop at their next checkpoint; their jobs go back to the queue."""
        for followed in list(self._claimed.values()):
            followed.stopping.set()

    def _wait(self, followed: Followed, job: Job | None) -> None:
        """Wait for the turn of a job; `job` is its row as last read, or None if it was not read yet."""
        if job is not None:
            followed.note(job, self._stopping(job.task_id))
        with self._lock:
            is_over = self._is_closed or followed.stopping.is_set()
            if not is_over:
                self._waiting.setdefault(followed.job_id, []).append(followed)
                if job is not None:
                    self._note_readiness(job)
                self._start()
        if is_over:
            followed.future.set_result(job)
        else:
            self._wakeups.notify()

    def _note_readiness(self, job: Job) -> None:
        due_in_seconds = 0.0
        if job.run_after is not None:
            due_in_seconds = (job.run_after - self._database.clock()).total_seconds()
        if due_in_seconds > 0:
            self._due_at = min(self._due_at, time.monotonic() + due_in_seconds)
        if due_in_seconds > 0 or job.status == "running" or job.held_by == HELD_BY_STEPS:
            self._not_ready.add(job.id)
        else:
            self._not_ready.discard(job.id)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            # The rows of the first jobs were just read. So their states are read later, and not during the first claim.
            self._looked_at = time.monotonic()
            self._executor = Executor(self, settings=self._settings, wakeups=self._wakeups)
            run = self._executor.run
            thread = threading.Thread(target=run, kwargs={"until_empty": False}, name="photojobs-executor", daemon=True)
            thread.start()
            self._thread = thread

    def _is_of(self, task_id: str | None, job_id: int) -> bool:
        job = self._waiting[job_id][0].job
        return job is not None and job.task_id == task_id

    def _dismiss(self, job_ids: Sequence[int]) -> None:
        try:
            self._leave(job_ids)
        except StorageError as error:
            # These rows get no more heartbeats, so they soon stop holding back other jobs.
            logger.warning(
                "the heartbeats of jobs for which this process no longer waits could not be removed (%s); they expire "
                "within seconds. The ids of the jobs: %s",
                error,
                ", ".join(map(str, job_ids)),
            )
        for job_id in job_ids:
            self._answer(job_id)

    def _answer(self, job_id: int, row: Job | None = None, *, is_removed: bool = False) -> None:
        """End the wait for a job with its row: None if it was removed, otherwise `row` or the row read last."""
        with self._lock:
            waiters = self._waiting.pop(job_id, [])
            self._next_in_line.discard(job_id)
            self._not_ready.discard(job_id)
        for followed in waiters:
            followed.future.set_result(None if is_removed else row or followed.job)

    def _note_rows(self, job_ids: Sequence[int]) -> None:
        """Read rows. End the wait for a job that has ended, was removed, or must not run in this process."""
        rows = self._jobs.get_many(job_ids)
        for job_id in job_ids:
            row = rows.get(job_id)
            if row is None:
                self._answer(job_id, is_removed=True)
                continue
            stopping = self._stopping(row.task_id)
            if row.is_final or stopping.is_set():
                self._answer(job_id, row)
                continue
            with self._lock:
                for followed in self._waiting.get(job_id, ()):
                    followed.note(row, stopping)
                self._note_readiness(row)

    def _next_look_at(self) -> float:
        return min(self._looked_at + self._settings.poll_seconds, self._due_at)

    def _look_at_states(self) -> None:
        """Find out which of the jobs have ended, and when the first delayed job is due."""
        with self._lock:
            job_ids = list(self._waiting)
            self._looked_at, self._due_at = time.monotonic(), math.inf
        now = self._database.clock()
        states = heartbeats.job_states(self._database, job_ids)
        ended, not_ready, elsewhere = list[int](), set[int](), list[int]()
        for job_id in job_ids:
            state = states.get(job_id)
            if state is None or state.status not in ("queued", "running"):
                ended.append(job_id)
            elif state.run_after is not None and state.run_after > now:
                due_in_seconds = (state.run_after - now).total_seconds()
                self._due_at = min(self._due_at, self._looked_at + due_in_seconds)
                not_ready.add(job_id)
            elif state.status == "running":
                not_ready.add(job_id)
                elsewhere.append(job_id)
            elif state.held_by == HELD_BY_STEPS:
                not_ready.add(job_id)
        with self._lock:
            self._not_ready = not_ready
            waiters = [followed for job_id in elsewhere for followed in self._waiting.get(job_id, ())]
        for followed in waiters:
            followed.follower.running_elsewhere()
        if ended:
            self._note_rows(ended)

    def _takes(self, claimed: Job) -> bool:
        """Return whether this process still follows a claimed job. If not, the job goes back to the queue at once."""
        stopping = self._stopping(claimed.task_id)
        with self._lock:
            waiters = self._waiting.get(claimed.id)
            followed = waiters.pop(0) if waiters else None
            if not waiters:
                self._waiting.pop(claimed.id, None)
            self._next_in_line.discard(claimed.id)
            self._not_ready.discard(claimed.id)
            if followed is not None:
                followed.note(claimed, stopping)
                self._claimed[str(claimed.claim_token)] = followed
        if followed is None:
            try:
                self._hand_back(claimed)
            except StorageError as error:
                logger.warning(
                    "job %d: the job could not return to the queue (%s); `photojobs up` or a worker queues it again",
                    claimed.id,
                    error,
                    extra=about_job(claimed),
                )
        return followed is not None

    def _hand_back(self, claimed: Job) -> None:
        self._jobs.hand_back(claimed.id, claim_token=str(claimed.claim_token))

    def _keep_slots(self, free: int) -> None:
        """Keep the next slots of each lane for its best waiting jobs, at most as many as there are free threads.

        A process without a free thread could not use a slot, so its jobs must not keep the slot from other jobs.
        """
        with self._lock:
            ready = [
                job
                for job_id, waiters in self._waiting.items()
                if free > 0 and job_id not in self._not_ready and (job := waiters[0].job) is not None
            ]
        ready.sort(key=rank)
        room = Counter[str | None]()
        awaited = set[int]()
        for job in ready:
            lane = next((lane.name for lane in self._lanes if lane.covers(job.priority)), None)
            if room[lane] < free:
                room[lane] += 1
                awaited.add(job.id)
        with self._lock:
            left = self._next_in_line - awaited
            newly = [job_id for job_id in awaited - self._next_in_line if job_id in self._waiting]
        try:
            self._leave(left)
            with self._lock:
                self._next_in_line.update(newly)
            heartbeats.record_waiting(self._database, newly, worker_id=self._worker_id)
        except StorageError as error:
            logger.warning(
                "this process could not record for which jobs it waits (%s), so other jobs may start before them. The "
                "ids of the awaited jobs: %s",
                error,
                ", ".join(map(str, sorted(awaited))) or "none",
            )

    def _leave(self, job_ids: Collection[int]) -> None:
        with self._lock:
            left = self._next_in_line.intersection(job_ids)
            self._next_in_line -= left
        heartbeats.clear_waiting(self._database, list(left))

    def _known_lanes(self) -> Sequence[Lane]:
        if time.monotonic() - self._lanes_read_at > LANES_SECONDS:
            self._lanes = LanesRepository(self._database).list()
            self._lanes_read_at = time.monotonic()
        return self._lanes

    def _run(self, followed: Followed, claimed: Job, write_end: EndWriter) -> None:
        job: Job | None = claimed
        try:
            if followed.follower.refuses():
                self._hand_back(claimed)
            else:
                job = followed.follower.run(claimed, followed.stopping, write_end)
                if job is not None and not job.is_final:
                    followed.follower.queued_again(claimed, job)
                    self._wait(followed, job)
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is waited for.
            followed.future.set_exception(error)
        else:
            followed.future.set_result(job)
