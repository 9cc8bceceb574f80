"""`photojobs demo`: create a library with many kinds of faults, and show how runs repair it.

`deployments.demo.faults` decides which faults there are.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy import text

from deployments.cli.commands.tasks.running import run_followed
from deployments.cli.options.errors import RunBrokenOff
from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.parameters import Flag, WholeNumber
from deployments.cli.options.task_options import TaskOptions, read_request
from deployments.cli.output.progress import BY_CTRL_C
from deployments.cli.output.summary import print_summary
from deployments.cli.output.terminal import duration, messages, output, print_table, remark, say
from deployments.demo.faults import BROKEN, LOST_ROWS, spoil_derivatives
from deployments.demo.folder import DemoFolder, DemoState, claim_folder
from deployments.demo.library import DEFAULT_LARGE_PHOTOS, DEFAULT_PHOTOS, DemoLibrary, make_library
from deployments.demo.projects import LOFOTEN, LOST_DRIVE, TENANTS
from deployments.demo.snapshot import Snapshot, take_snapshot
from deployments.embedded_server.password import auth_string_of, login_link
from deployments.server.prefect_server import embedded_server
from deployments.status.listed_rows import failed_item_names
from flows.errors import RunBroken
from flows.process.runtime import Runtime
from storage.database.database_url import sqlite_url
from storage.database.engine import Database
from storage.library.paths import Library
from storage.photos.projects import ProjectsRepository
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary
from storage.settings import Settings
from task_definitions.wording import quantity

#: A demo with fewer photos than this has one large photo instead of several.
SMALL_DEMO = 1_000

#: How many names are shown for each kind of change.
EXAMPLES = 3

#: How many differences are shown if another run changed something, for example because a user changed the library.
DIFFERENCES = 20

FAILED_ITEMS = (
    "SELECT filename, message, count(*) AS times FROM job_items WHERE status = 'failed' GROUP BY 1, 2 ORDER BY 1"
)

QUERIES = (
    """SELECT task_type, type, status, priority, count(*) AS jobs, sum(progress_total) AS items
FROM jobs GROUP BY 1, 2, 3, 4 ORDER BY min(id)""",
    """SELECT id, tenant_id, type, chunk_index, total_chunks, progress_done, progress_total, status
FROM jobs WHERE total_chunks > 1 ORDER BY id""",
    "SELECT status, count(*) AS items FROM job_items GROUP BY status",
    "SELECT thumbnail_status, preview_status, count(*) AS photos FROM photos GROUP BY 1, 2",
    "SELECT action, count(*) AS moves_and_removals FROM file_journal GROUP BY action",
)

app = App(name="demo")


@app.default
def demo(
    *,
    folder: Path = Path("photojobs-demo"),
    photos: Annotated[WholeNumber, Parameter(validator=Number(gte=20, lte=100_000))] = DEFAULT_PHOTOS,
    keep: Flag = False,
) -> int:
    """Create a library with many kinds of faults, and repair it.

    The library gets its own folder. A second run works on the same library, and shows that nothing is left to do.

    Args:
        folder: The folder that the demo creates; the demo never changes a folder that it did not create.
        photos: About how many photos a new library gets; an existing library keeps its photos.
        keep: Keep Prefect's server running at the end, until Ctrl-C, so that you can look at its pages.
    """
    began = time.monotonic()
    place = claim_folder(folder)
    settings = Settings.load(
        database_url=sqlite_url(place.database_path),
        library_root=place.library_root,
        definitions=None,
        trash_ttl_seconds=86_400,
        unaccepted_files="keep",
        rename_user_files="rename",
        # No fault disappears between two attempts, so a second attempt would only take time.
        max_attempts=1,
        # No file is still being written, so steps need not wait for the end of changes.
        settle_seconds=0,
    )
    database = Database(place.database_path)
    database.migrate()
    if place.state is DemoState.MAKING:
        _make(place, database, photos)
    else:
        say(f"{place.path} already exists; the demo works on the library in this folder again.")
    with Runtime(database, settings=settings) as runtime, runtime.as_current():
        remark("Starting Prefect's server …")
        with embedded_server(place.prefect_home) as url:
            say(f"Prefect's server at {url.removesuffix('/api')}, its data in {place.prefect_home}")
            is_as_promised = _again(place, runtime) if place.state is DemoState.REPAIRED else _repair(place, runtime)
            _title("The same results, read with SQL")
            for statement in QUERIES:
                _print_query(database, statement)
            _print_next(place, took=duration(time.monotonic() - began))
            if keep:
                _wait_for_interrupt(login_link(url.removesuffix("/api"), auth_string_of(place.prefect_home)))
    return 0 if is_as_promised else TASK_FAILED


def _make(place: DemoFolder, database: Database, photos: int) -> None:
    large = DEFAULT_LARGE_PHOTOS if photos >= SMALL_DEMO else 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    if not messages().is_terminal:
        remark("Drawing photos …")
    with Progress(*columns, console=messages(), transient=True, disable=not messages().is_terminal) as progress:
        bar = progress.add_task("Drawing photos", total=None)
        made = make_library(
            place.library_root,
            database,
            photos=photos,
            large_photos=large,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    place.enter(DemoState.MADE)
    _print_library(place, made, large=large)


def _repair(place: DemoFolder, runtime: Runtime) -> bool:
    expected = _hopeless(runtime.database)
    summaries = [_run(runtime, "process_photos", tenant_id) for tenant_id in TENANTS]
    spoiled = spoil_derivatives(Library(place.library_root).project(LOFOTEN.tenant_id, LOFOTEN.folder))
    say(f"\nThe demo now deletes or empties {spoiled} thumbnails and previews of {LOFOTEN.name}.")
    nights = [_run(runtime, "maintenance_global", tenant_id) for tenant_id in TENANTS]
    # A project that the first run of the upkeep archived is due for removal in the second run.
    nights += [
        _run(runtime, "maintenance_global", night.task.tenant_id)
        for night in nights
        if any(step.counts.get("archived") for step in night.steps)
    ]
    place.enter(DemoState.REPAIRED)
    _print_repaired(runtime.database, nights)
    return _fails_as_expected(runtime.database, summaries + nights, expected)


def _again(place: DemoFolder, runtime: Runtime) -> bool:
    before, expected = take_snapshot(place.library_root, runtime.database), _hopeless(runtime.database)
    summaries = [
        _run(runtime, name, tenant_id) for name in ("process_photos", "maintenance_global") for tenant_id in TENANTS
    ]
    _print_sameness(before, take_snapshot(place.library_root, runtime.database))
    return _fails_as_expected(runtime.database, summaries, expected)


def _run(runtime: Runtime, name: str, tenant_id: str) -> TaskSummary:
    options = TaskOptions(tenant=tenant_id, all=name == "process_photos")
    request = read_request(name, options, runtime.settings)
    _title(
        f"{request.definition.label} for {tenant_id}: photojobs run {name} --tenant {tenant_id}"
        + " --all" * options.all
    )
    try:
        summary = run_followed(request, runtime, is_shown=True)
    except RunBroken as error:
        raise RunBrokenOff(str(error)) from error
    print_summary(summary)
    if summary.task.error_message == BY_CTRL_C:
        raise KeyboardInterrupt
    return summary


def _hopeless(database: Database) -> frozenset[str]:
    """Return the names of the photos that must fail now.

    These are the broken files, and the photos of the project without a folder until upkeep archives it.
    """
    active = {project.project_name for project in ProjectsRepository(database).list(archived=False)}
    lost = [LOST_DRIVE.photo_name(index) for index in range(LOST_ROWS)] if LOST_DRIVE.name in active else []
    return frozenset((*BROKEN, *lost))


def _fails_as_expected(database: Database, summaries: list[TaskSummary], expected: frozenset[str]) -> bool:
    """Show which items failed; return True if exactly the expected items failed and every task has ended."""
    _title("What failed and why, while everything else went on")
    _print_query(database, FAILED_ITEMS)
    names = failed_item_names(database, [summary.task.id for summary in summaries])
    return names == expected and all(summary.task.is_final for summary in summaries)


def _wait_for_interrupt(link: str) -> None:
    say(f"\nPrefect's pages: {link}  (Ctrl-C ends the server)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("")


def _title(words: str) -> None:
    output().print()
    output().print(words, style="bold", markup=False, soft_wrap=True)


def _print_library(place: DemoFolder, made: DemoLibrary, *, large: int) -> None:
    say(
        f"A library in {place.library_root}: {quantity(len(made.tenant_ids), 'tenant')}, "
        f"{quantity(len(made.project_ids), 'project')}, "
        f"{made.jpegs} JPEGs ({large} of 24 megapixels), {made.pngs} PNGs; its rows in {place.database_path}"
    )
    _title("Faults in the library")
    print_table(("fault", "number"), list(made.faults.items()), numbers=("number",))


def _print_repaired(database: Database, nights: Sequence[TaskSummary]) -> None:
    """Print the changes that upkeep made; for each kind of change, only the first few names."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[str]] = {}
    for summary in nights:
        for job in TasksRepository(database).list_jobs(summary.task.id):
            for what, number in job.result.get("counts", {}).items():
                counts[job.type, what] += number
                examples.setdefault((job.type, what), []).extend(job.result.get("examples", {}).get(what, []))
    _title("What two nights of upkeep found and repaired")
    rows = [
        (step, f"{what}: {number}", "; ".join(dict.fromkeys(examples[step, what][:EXAMPLES])))
        for (step, what), number in counts.items()
        if what != "unchanged"
    ]
    print_table(("step", "did", "for example"), rows)


def _print_sameness(before: Snapshot, after: Snapshot) -> None:
    """Print what a second run changed, or that it changed nothing."""
    _title("Run again")
    differences = before.differences(after)
    if not differences:
        say(
            f"Nothing changed: {len(after.files)} files have the same contents and times as before, and "
            f"{len(after.rows)} rows of projects, photos and tags have the same values."
        )
        return
    say(f"This run changed these files and rows ({len(differences)}):")
    for line in differences[:DIFFERENCES]:
        say(f"  {line}")


def _print_next(place: DemoFolder, *, took: str) -> None:
    _title(f"Done in {took}. Try next")
    for line in (
        f"export PHOTOJOBS_DATABASE_URL={quote(sqlite_url(place.database_path))}",
        f"export PHOTOJOBS_LIBRARY_ROOT={quote(str(place.library_root))}",
        f"export PHOTOJOBS_SCHEDULED_TENANTS={quote(json.dumps(TENANTS))}",
        f"export PREFECT_HOME={quote(str(place.prefect_home))}",
        "photojobs up    # then open the address that it prints, press Run on Global Maintenance, and choose a tenant",
        "photojobs status",
        "photojobs library list",
        "photojobs jobs list --status failed",
        "photojobs run process_photos --tenant anna --tag best --payload '{\"force\": true}'",
        "photojobs run regenerate_metadata --tenant ben",
        "photojobs definitions show maintenance_global",
        f"sqlite3 {quote(str(place.database_path))} {quote(FAILED_ITEMS)}",
        f"photojobs demo --folder {quote(str(place.path))}    # again: nothing is left to do",
        f"rm -r {quote(str(place.path))}    # deletes everything",
    ):
        say(f"  {line}")


def _print_query(database: Database, statement: str) -> None:
    with database.connect() as connection:
        result = connection.execute(text(statement))
        columns, rows = list(result.keys()), [tuple(row) for row in result]
    say("")
    for line in statement.splitlines():
        say(f"  {line}")
    if not rows:
        say("no rows")
        return
    numbers = [name for index, name in enumerate(columns) if any(isinstance(row[index], int) for row in rows)]
    print_table(columns, rows, numbers=numbers)
