"""`photojobs status`: show what is running, what is waiting and why, what failed, and what comes next.

`deployments.status.queue_status` decides what is shown.
"""

from __future__ import annotations

import itertools
import json as json_text
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from deployments.cli.commands.queue.lanes import lane_section
from deployments.cli.options.errors import BadInput
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Count, Flag, Json
from deployments.cli.options.signals import ctrl_c_pressed
from deployments.cli.output.job_cells import beginning, progress_of, short_id, task_section
from deployments.cli.output.terminal import Section, duration, output, plain, print_json, print_section, say, table
from deployments.status.queue_status import QueueStatus, RunningJob, read_status
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.wording import portion, quantity

app = App(name="status")

Seconds = Annotated[float, Parameter(validator=Number(gt=0, lte=86_400))]


@app.default
def show_status(
    *,
    tenant: str | None = None,
    limit: Count = 10,
    watch: Flag = False,
    interval: Seconds = 2.0,
    times: Count | None = None,
    json: Json = False,
) -> None:
    """Show what is running, what is waiting and why, what failed, and what comes next.

    The output shows lanes with their slots, running jobs, waiting jobs by priority and age with delayed jobs last,
    failures by reason, tasks, holds and schedules.

    Args:
        tenant: Only jobs and tasks of this tenant; lanes, holds and schedules are those of all tenants.
        limit: The most rows in the tables of running jobs, waiting jobs, failures and tasks; unfinished tasks come
            first.
        watch: Update the display until Ctrl-C. Without a terminal, print one line for each update; with --json, print
            one document for each.
        interval: Seconds between two updates.
        times: End after this many updates.
    """
    if times is not None and not watch:
        raise BadInput("status: --times needs --watch. Add --watch, or leave --times out.")
    settings = Settings.load()
    definitions = load_definitions(settings.definitions, strict=False)
    with opened_database(settings=settings) as database:
        look = partial(read_status, database, settings, definitions, tenant_id=tenant, limit=limit)
        if watch:
            _watch(look, interval=interval, times=times, json=json)
            return
        status = look()
    if json:
        print_json(status)
        return
    for line in _head(status):
        say(line)
    for section in _sections(status):
        say("")
        print_section(section)


def _watch(look: Callable[[], QueueStatus], *, interval: float, times: int | None, json: bool) -> None:
    is_live = output().is_terminal and not json
    with ctrl_c_pressed() as pressed:
        statuses = _each(look, interval, times, pressed)
        if is_live:
            with Live(console=output(), screen=True, auto_refresh=False) as live:
                for status in statuses:
                    live.update(_page(status), refresh=True)
            return
        for status in statuses:
            output().out(json_text.dumps(status, default=plain) if json else _line(status))
            output().file.flush()


def _each(
    look: Callable[[], QueueStatus], interval: float, times: int | None, ended: threading.Event
) -> Iterator[QueueStatus]:
    for number in itertools.count(1):
        yield look()
        if number == times or ended.wait(interval):
            return


def _page(status: QueueStatus) -> RenderableType:
    parts: list[RenderableType] = [Text(line) for line in _head(status)]
    for section in _sections(status):
        parts += [Text(""), table(section)]
    return Group(*parts)


def _line(status: QueueStatus) -> str:
    jobs = status.jobs
    lanes = ", ".join(
        f"{lane.name} {lane.running}/{'-' if lane.slots is None else lane.slots}" for lane in status.lanes
    )
    return (
        f"{status.at:%Y-%m-%d %H:%M:%S}  {jobs['running']} running ({lanes}), {jobs['queued']} queued"
        f" ({status.delayed} to run later), {jobs['failed']} failed, {jobs['completed']} completed,"
        f" {jobs['canceled']} canceled{_of_all(status)}"
    )


def _of_all(status: QueueStatus) -> str:
    return "" if status.tenant_id is None else " (all tenants)"


def _head(status: QueueStatus) -> Iterator[str]:
    counts = ", ".join(f"{number} {name}" for name, number in status.jobs.items())
    yield f"Database  {status.database}"
    start = "starts" if status.delayed == 1 else "start"
    delayed = f"; {status.delayed} of the queued jobs {start} later" if status.delayed else ""
    yield f"Jobs      {counts}{delayed}{_of_all(status)}"
    yield f"At work   {_at_work(status)}"
    if status.corrupt_originals:
        yield f"Originals {status.corrupt_originals} corrupt: see `photojobs library verify`"
    wrong = sum(run.standing.is_wrong for run in status.schedules)
    if wrong or status.scheduler_errors:
        do = "does" if wrong == 1 else "do"
        counted = f"{portion(wrong, len(status.schedules), 'schedule')} {do} not run as planned"
        logged = f"; the scheduler of Prefect's server logged {quantity(status.scheduler_errors, 'error')}"
        yield f"Schedules {counted}{logged if status.scheduler_errors else ''}: see `photojobs doctor`"


def _at_work(status: QueueStatus) -> str:
    activity = status.activity
    words = [f"{one.worker_id} ({one.running} running)" for one in activity.alive]
    if activity.followed_tasks:
        words.append(f"flow runs of {quantity(activity.followed_tasks, 'task')}")
    words += [
        f"{one.worker_id} has stopped sending heartbeats ({one.running} running; `photojobs up` or a worker takes over)"
        for one in activity.silent
    ]
    if words or activity.is_any_alive:
        return ", ".join(words) or "nothing now; a process was active a moment ago"
    if any(one.reason.name == "executor" for one in status.waiting):
        return "nothing, although jobs wait: start `photojobs up` or `photojobs worker`"
    queued = status.jobs.get("queued", 0)
    if queued:
        return f"nothing, while {quantity(queued, 'job')} {'waits' if queued == 1 else 'wait'}"
    return "nothing, and no job waits"


def _sections(status: QueueStatus) -> Iterator[Section]:
    yield lane_section(status.lanes)
    if status.running:
        yield Section(
            ("running", "type", "task", "tenant", "done", "rate", "for", "left", "heartbeat", "worker"),
            [_running_row(one) for one in status.running],
            ("running", "done", "rate", "for", "left", "heartbeat"),
            spared=("worker", "tenant", "heartbeat", "task"),
        )
    if status.waiting:
        yield Section(
            ("waiting", "type", "priority", "tenant", "for", "why"),
            [
                (
                    one.job.id,
                    one.job.type,
                    one.job.priority,
                    one.job.tenant_id,
                    duration(one.seconds),
                    beginning(one.reason.says),
                )
                for one in status.waiting
            ],
            ("waiting", "priority", "for"),
            spared=("tenant", "priority"),
        )
    if status.failures:
        yield Section(
            ("failed", "jobs", "last", "job", "reason"),
            [(one.type, one.count, one.last_at, one.job_id, beginning(one.reason)) for one in status.failures],
            ("jobs", "job"),
        )
    if status.tasks:
        yield task_section(status.tasks)
    if status.holds:
        yield Section(
            ("held", "name", "since", "reason"),
            [(hold.kind, hold.name, hold.created_at, hold.reason) for hold in status.holds],
        )
    if status.schedules:
        yield Section(
            ("scheduled", "tenant", "next", "when", "standing"),
            [(run.definition, run.tenant_id, run.next_at, run.when, run.standing) for run in status.schedules],
            spared=("tenant",),
        )


def _running_row(one: RunningJob) -> tuple[object, ...]:
    return (
        one.job.id,
        one.job.type,
        short_id(one.job.task_id),
        one.job.tenant_id,
        progress_of(one.job),
        "" if one.rate is None else f"{one.rate:.1f}/s",
        duration(one.seconds),
        duration(one.remaining_seconds),
        duration(one.silent_seconds),
        one.job.worker_id,
    )
