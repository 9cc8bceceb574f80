"""`photojobs demo`: create a library with many kinds of faults, and show how runs repair it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.progress import BarColumn, Progress, TextColumn

from deployments.cli.commands.installation.demo_report import (
    print_failures,
    print_library,
    print_next,
    print_queries,
    print_repaired,
    print_sameness,
    title,
)
from deployments.cli.commands.tasks.running import run_followed
from deployments.cli.options.task_options import TaskOptions, read_request
from deployments.cli.output.progress import BY_CTRL_C
from deployments.cli.output.summary import print_summary
from deployments.cli.output.terminal import duration, messages, remark, say
from deployments.demo.faults import BROKEN, LOST_ROWS, spoil_derivatives
from deployments.demo.folder import DemoFolder, DemoState, claim_folder
from deployments.demo.library import DEFAULT_LARGE_PHOTOS, DEFAULT_PHOTOS, make_library
from deployments.demo.projects import LOFOTEN, LOST_DRIVE, TENANTS
from deployments.demo.snapshot import take_snapshot
from deployments.embedded_server.password import auth_string_of, login_link
from deployments.server.prefect_server import embedded_server
from deployments.status.queue_figures import failed_item_names
from flows.process.runtime import Runtime
from storage.database.engine import Database
from storage.library.paths import Library
from storage.reports.task_summary import TaskSummary
from storage.settings import Settings

#: A demo with fewer photos than this has one large photo instead of several.
SMALL_DEMO = 1_000

#: The names of photos that must fail: files that are not pictures, and photos of the project without a folder.
HOPELESS = frozenset(BROKEN) | {LOST_DRIVE.photo_name(index) for index in range(LOST_ROWS)}

app = App(name="demo")


@app.default
def demo(
    *,
    folder: Path = Path("photojobs-demo"),
    photos: Annotated[int, Parameter(validator=Number(gte=20, lte=100_000))] = DEFAULT_PHOTOS,
    keep: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Create a library with many kinds of faults, and repair it.

    The library gets its own folder. A second run works on the same library, and shows that nothing is left to do.

    Parameters
    ----------
    folder
        The folder that the demo creates; the demo never changes a folder that it did not create.
    photos
        About how many photos; an existing library is not changed.
    keep
        Keep Prefect's server running at the end, until Ctrl-C, so that you can look at its pages.
    """
    began = time.monotonic()
    place = claim_folder(folder)
    settings = Settings.load(
        database_url=f"sqlite:///{place.database_path}",
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
        say(f"{place.path} already exists; the demo works on the same library again.")
    with Runtime(database, settings=settings) as runtime:
        remark("Starting Prefect's server …")
        with embedded_server(place.prefect_home) as url:
            say(f"Prefect's server at {url.removesuffix('/api')}, its data in {place.prefect_home}")
            is_as_promised = _again(place, runtime) if place.state is DemoState.REPAIRED else _repair(place, runtime)
            print_queries(database)
            print_next(place, took=duration(time.monotonic() - began))
            if keep:
                _wait_for_interrupt(login_link(url.removesuffix("/api"), auth_string_of(place.prefect_home)))
    return 0 if is_as_promised else 1


def _make(place: DemoFolder, database: Database, photos: int) -> None:
    large = DEFAULT_LARGE_PHOTOS if photos >= SMALL_DEMO else 1
    with _drawing() as progress:
        bar = progress.add_task("Drawing photos", total=None)
        made = make_library(
            place.library_root,
            database,
            photos=photos,
            large_photos=large,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    place.enter(DemoState.MADE)
    print_library(place, made, large=large)


def _repair(place: DemoFolder, runtime: Runtime) -> bool:
    summaries = [_run(runtime, "process_photos", tenant_id) for tenant_id in TENANTS]
    spoiled = spoil_derivatives(Library(place.library_root).project(LOFOTEN.tenant_id, LOFOTEN.folder))
    say(f"\nMeanwhile {spoiled} thumbnails and previews of {LOFOTEN.name} were deleted or emptied.")
    nights = [_run(runtime, "maintenance_global", tenant_id) for tenant_id in TENANTS]
    # A project that the first night archived is due for removal in the second night.
    nights += [
        _run(runtime, "maintenance_global", night.task.tenant_id)
        for night in nights
        if any(step.counts.get("archived") for step in night.steps)
    ]
    place.enter(DemoState.REPAIRED)
    print_repaired(runtime.database, nights)
    return _print_failures(runtime.database, summaries + nights)


def _again(place: DemoFolder, runtime: Runtime) -> bool:
    before = take_snapshot(place.library_root, runtime.database)
    summaries = [
        _run(runtime, name, tenant_id) for name in ("process_photos", "maintenance_global") for tenant_id in TENANTS
    ]
    print_sameness(before, take_snapshot(place.library_root, runtime.database))
    return _print_failures(runtime.database, summaries)


def _run(runtime: Runtime, name: str, tenant_id: str) -> TaskSummary:
    options = TaskOptions(tenant=tenant_id, all=name == "process_photos")
    request = read_request(name, options, runtime.settings)
    title(
        f"{request.definition.label} for {tenant_id}: photojobs run {name} --tenant {tenant_id}"
        + " --all" * options.all
    )
    summary = run_followed(request, runtime, is_shown=True)
    print_summary(summary)
    if summary.task.error_message == BY_CTRL_C:
        raise KeyboardInterrupt
    return summary


def _print_failures(database: Database, summaries: list[TaskSummary]) -> bool:
    """Show which items failed; return True if exactly the expected items failed."""
    print_failures(database)
    names = failed_item_names(database, [summary.task.id for summary in summaries])
    return names <= HOPELESS and all(summary.task.is_final for summary in summaries)


def _wait_for_interrupt(link: str) -> None:
    say(f"\nPrefect's pages: {link}  (Ctrl-C ends the server)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("")


@contextmanager
def _drawing() -> Iterator[Progress]:
    if not messages().is_terminal:
        remark("Drawing photos …")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=messages(), transient=True, disable=not messages().is_terminal) as progress:
        yield progress
