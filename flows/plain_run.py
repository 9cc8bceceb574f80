"""Running a task in this process without Prefect, so that its first job begins at once."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial

from flows.dispatcher import WAITING_THREADS
from flows.job_following import follow_to_end
from flows.patience import insist
from flows.runtime import Runtime
from flows.sweep import Sweeper
from storage.records import Job, Task
from storage.task_summary import TaskSummary, summarise_task
from storage.tasks import TasksRepository


def run_plainly(task_id: str, runtime: Runtime) -> TaskSummary:
    """Run a written task to its end, and return what it did.

    It may be called at any point of the task's life, by several processes at once: what has ended is not run again.
    If an exception from outside arrives, what runs here is handed back, and the task goes on elsewhere.
    """
    tasks = TasksRepository(runtime.database)
    runtime.events.task_running(tasks.get(task_id))
    # The sweeper: the task may wait for a job whose executor has died.
    with runtime.following(task_id), runtime.heartbeat.attending(task_id), Sweeper(runtime):
        try:
            _follow(task_id, runtime, tasks)
        except BaseException:
            runtime.stop_task(task_id)
            raise
    summary = summarise_task(runtime.database, task_id)
    runtime.events.task_ended(summary.task, message=summary.message)
    return summary


def _follow(task_id: str, runtime: Runtime, tasks: TasksRepository) -> None:
    stopping = runtime.stopping(task_id)
    while True:
        task: Task = insist(lambda: tasks.settle(task_id), unless=stopping.is_set)
        if task.is_final:
            return
        window = insist(
            partial(tasks.unfinished_jobs, task, limit=runtime.settings.window_size), unless=stopping.is_set
        )
        _run_all(window, runtime)


def _run_all(window: list[Job], runtime: Runtime) -> None:
    left, errors = deque(window), list[BaseException]()

    def work() -> None:
        try:
            while (job := _next(left)) is not None:
                follow_to_end(job.id, runtime)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits.
            errors.append(error)

    # As many as a flow run has: most wait for their job's turn, or for its backoff. Daemons, because a handler that
    # never comes to a checkpoint must not keep a process alive that was asked to end.
    count = min(WAITING_THREADS, len(window))
    threads = [threading.Thread(target=work, name=f"photojobs-run-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _next(left: deque[Job]) -> Job | None:
    # Not "while left": another thread may take the last one in between.
    try:
        return left.popleft()
    except IndexError:
        return None
