"""`photojobs report`: write one self-contained HTML page about a task.

`deployments.report.task_report` decides what the page contains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.cli.options.errors import BadInput
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Json, WholeNumber, refuse_beside
from deployments.cli.options.signals import removing_temporary_files
from deployments.cli.output.terminal import print_json, say, write_file
from deployments.report.contact_sheet import DEFAULT_PHOTOS
from deployments.report.page import render_report
from deployments.report.task_report import TaskReport, read_report
from storage.queue.tasks import TasksRepository
from storage.settings import Settings

#: The largest number of thumbnails on a page.
MAX_PHOTOS = 500

app = App(name="report")


@app.default
def write_report(
    task: str | None = None,
    /,
    *,
    output: Path | None = None,
    photos: Annotated[WholeNumber, Parameter(validator=Number(gte=0, lte=MAX_PHOTOS))] = DEFAULT_PHOTOS,
    json: Json = False,
) -> None:
    """Write an HTML page about a task: its timeline, failures, changes and photos.

    The command needs the extra `report`.

    Args:
        task: The task's id, or the first characters of its id; by default the newest task.
        output: The file to write; an existing file is replaced if its suffix is that of a text, such as .html. By
            default report-TASK.html in the working folder.
        photos: How many changed photos the contact sheet shows at most.
    """
    if json:
        refuse_beside("--json", {"--output": output})
    settings = Settings.load()
    with removing_temporary_files(), opened_database(settings=settings) as database:
        if task is None:
            newest = TasksRepository(database).list_newest(limit=1)
            if not newest:
                raise BadInput("there is no task to report on. `photojobs run NAME` creates one.")
            task = newest[0].id
        else:
            task = TasksRepository(database).whole_id(task)
        report = read_report(database, settings.library, task, photos=0 if json else photos)
    if json:
        print_json(_document(report))
        return
    file = output or Path(f"report-{_file_name(task)}.html")
    write_file(file, render_report(report))
    say(str(file))


def _document(report: TaskReport) -> dict[str, object]:
    task = report.summary.task
    return {
        "task_id": task.id,
        "type": task.type,
        "status": task.status,
        "began_at": report.begin,
        "ended_at": task.finished_at,
        "steps": report.summary.steps,
        "times": report.times,
        "throughput": report.throughput,
        "failures": report.failures,
        "slowest": report.slowest,
        "library": report.library,
        "is_after_now": report.is_after_now,
        "files": report.files,
        "changed_photos": report.changed,
    }


def _file_name(task_id: str) -> str:
    # A task's id may contain characters that a file name cannot.
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in task_id)[:64]
