"""Shows the progress of a running task: a bar for each step on a terminal, otherwise a line from time to time.

If no job of the task can start, one line says what the task waits for. The progress is read from the tables. Ctrl-C
cancels the task.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from deployments.cli.options.signals import ctrl_c_pressed
from deployments.cli.output.loudness import is_quiet
from deployments.cli.output.terminal import duration, messages, remark, warn
from flows.execution.task_stops import cancel_here
from flows.handlers.step import why_not_run
from flows.process.runtime import Runtime
from storage.errors import StorageError
from storage.queue.claims import rank
from storage.queue.tasks import TasksRepository
from storage.records import Job
from storage.reports.waiting_reasons import Standing, explain_job
from task_definitions.wording import quantity

logger = logging.getLogger("photojobs.progress")

#: Seconds between two reads of the tables.
LOOK_SECONDS = 0.5

#: The largest share of the time that reads of the tables may take.
LOOK_SHARE = 0.05

#: The stored reason of a task that Ctrl-C canceled.
BY_CTRL_C = "canceled by Ctrl-C"

#: Seconds between two lines about the same step, if there is no terminal.
LINE_SECONDS = 10.0

#: Seconds without a running job after which the reason is looked up and shown.
WAIT_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """The progress of a step: the sum over its jobs."""

    step_index: int
    type: str
    jobs: int
    ended_jobs: int
    done: int
    total: int | None

    @property
    def has_ended(self) -> bool:
        """Whether all jobs of the step have ended."""
        return self.ended_jobs == self.jobs

    @property
    def counted(self) -> str:
        """How much of the step is done, such as `3/10`: in items if their total is known, else in jobs."""
        if self.total:
            return f"{self.done}/{self.total}"
        return f"{self.ended_jobs}/{quantity(self.jobs, 'job')}"


@contextmanager
def following(runtime: Runtime, task_id: str, *, is_shown: bool) -> Iterator[None]:
    """Show the progress of a task while the block runs, and what the task waits for if no job can start.

    Ctrl-C cancels the task, a second Ctrl-C ends the block.

    The block must be entered in the main thread, which receives signals.
    """
    finished = threading.Event()
    view = None
    if is_shown and not is_quiet():
        view = _Bars() if messages().is_terminal and not messages().is_dumb_terminal else _Lines()
    with ctrl_c_pressed() as pressed:
        watcher = threading.Thread(
            target=_watch, args=(runtime, task_id, view, pressed, finished), name="photojobs-progress", daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            if isinstance(view, _Bars):
                view.close()


def step_progress(jobs: list[Job]) -> list[StepProgress]:
    """Return the progress of each step of a task, computed from the task's jobs."""
    steps: dict[tuple[int, str], list[Job]] = {}
    for job in jobs:
        steps.setdefault((job.step_index or 0, job.type), []).append(job)
    return [
        StepProgress(
            step_index=index,
            type=step_type,
            jobs=len(group),
            ended_jobs=sum(job.is_final for job in group),
            done=sum(_done(job) for job in group),
            total=sum(job.progress_total or 0 for job in group) or None,
        )
        for (index, step_type), group in steps.items()
    ]


def pace(speed: float, remaining_seconds: float | None) -> str:
    """Return the rate per second, and the remaining time if it is known, as a text."""
    left = "" if remaining_seconds is None else f", {duration(remaining_seconds)} left"
    return f"{speed:.1f}/s{left}"


def _done(job: Job) -> int:
    if job.is_final and job.progress_total is not None and job.status == "completed":
        return job.progress_total
    return job.progress_done or 0


def _watch(
    runtime: Runtime, task_id: str, view: _Bars | _Lines | None, pressed: threading.Event, finished: threading.Event
) -> None:
    tasks, is_canceled, took = TasksRepository(runtime.database), False, 0.0
    waits = _Waits(runtime)
    while True:
        has_finished = finished.wait(0.1 if pressed.is_set() else max(LOOK_SECONDS, took / LOOK_SHARE))
        began = time.monotonic()
        failed = f"task {task_id} could not be canceled"
        try:
            if pressed.is_set() and not is_canceled and not has_finished:
                remark("canceling; finished work is kept (press Ctrl-C again to leave at once)")
                cancel_here(task_id, runtime, reason=BY_CTRL_C)
                is_canceled = True
            failed = f"the progress of task {task_id} could not be read"
            jobs = tasks.list_jobs(task_id)
            if view is not None:
                view.show(step_progress(jobs))
            waits.show(jobs)
        except StorageError as error:
            # Executors keep trying while the database is busy, and so does this thread, at the next turn of the loop.
            logger.info("%s: %s%s", failed, error, "" if has_finished else " Trying again.")
        took = time.monotonic() - began
        if has_finished:
            return


class _Waits:
    """Shows why no job of a task starts, each reason once for each step."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._look_at: float | None = None
        self._said: set[tuple[int | None, str]] = set()

    def show(self, jobs: list[Job]) -> None:
        queued = [job for job in jobs if job.status == "queued"]
        if not queued or any(job.status == "running" for job in jobs):
            self._look_at = None
            return
        now = time.monotonic()
        if self._look_at is None:
            self._look_at = now + WAIT_SECONDS
        if now < self._look_at:
            return
        self._look_at = now + LINE_SECONDS
        job = min(queued, key=rank)
        database, stale_seconds = self._runtime.database, self._runtime.settings.stale_seconds
        reason = explain_job(database, job.id, stale_seconds=stale_seconds, why_not_run=why_not_run).obstacle
        if reason is None or (job.step_index, reason.name) in self._said:
            return
        self._said.add((job.step_index, reason.name))
        # A blocked job waits until a user acts, so the reason is shown with --quiet, too.
        show = warn if reason.standing is Standing.BLOCKED else remark
        show(f"{job.type} waits: {reason.says} {reason.remedy}".rstrip())


class _Bars:
    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}", justify="right", markup=False),
            _Pace(),
            TimeElapsedColumn(),
            console=messages(),
            transient=True,
        )
        self._bars: dict[tuple[int, str], TaskID] = {}
        self._progress.start()

    def show(self, steps: list[StepProgress]) -> None:
        for step in steps:
            key = (step.step_index, step.type)
            if key not in self._bars:
                self._bars[key] = self._progress.add_task(step.type, total=None, counted="")
            total = step.total or (step.jobs if step.has_ended else None)
            completed = (total or 0) if step.has_ended else step.done
            self._progress.update(self._bars[key], total=total, completed=completed, counted=step.counted)
            if step.has_ended:
                self._progress.stop_task(self._bars[key])

    def close(self) -> None:
        self._progress.stop()


class _Pace(ProgressColumn):
    """A column with the rate per second and the remaining time; empty until they are known."""

    def render(self, task: Task) -> Text:
        if task.finished or not task.speed:
            return Text("")
        return Text(pace(task.speed, task.time_remaining), justify="right")


class _Lines:
    def __init__(self) -> None:
        self._printed: dict[tuple[int, str], tuple[str, float]] = {}
        self._began: dict[tuple[int, str], tuple[int, float]] = {}

    def show(self, steps: list[StepProgress]) -> None:
        for step in steps:
            key = (step.step_index, step.type)
            last, printed_at = self._printed.setdefault(key, ("", time.monotonic()))
            text = f"{step.type}: {step.counted}" + (" ended" if step.has_ended else self._pace(step, key))
            if text != last and (step.has_ended or time.monotonic() - printed_at >= LINE_SECONDS):
                remark(text)
                self._printed[key] = (text, time.monotonic())

    def _pace(self, step: StepProgress, key: tuple[int, str]) -> str:
        done, began = self._began.setdefault(key, (step.done, time.monotonic()))
        seconds = time.monotonic() - began
        if step.done <= done or not seconds:
            return ""
        speed = (step.done - done) / seconds
        return ", " + pace(speed, None if step.total is None else (step.total - step.done) / speed)
