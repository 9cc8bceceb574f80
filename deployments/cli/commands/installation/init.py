"""`photojobs init`: create a settings file and a database for folders of photographs.

`deployments.library.library_survey` decides what the command finds in a folder, and `deployments.library.library_setup`
which files it writes.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclopts import App

from deployments.cli.options.errors import BadInput, RunBrokenOff
from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.parameters import Flag, Json
from deployments.cli.output.loudness import is_quiet
from deployments.cli.output.progress import following
from deployments.cli.output.summary import print_summary
from deployments.cli.output.terminal import confirm, messages, print_fields, print_json, print_table, remark, say
from deployments.library.library_setup import LibrarySetup, discover_projects, set_up, write_setup
from deployments.library.library_survey import EXAMPLES, Layout, LibrarySurvey, survey_library
from storage.library.naming.kinds import DEFAULT_EXTENSIONS
from storage.reports.task_summary import TaskSummary
from task_definitions.errors import PhotojobsError
from task_definitions.wording import listed

app = App(name="init")

#: The largest number of projects in the list.
SHOWN_PROJECTS = 20


@app.default
def init(
    folder: Path | None = None,
    /,
    *,
    into: Path = Path(),
    database: str | None = None,
    layout: Layout | None = None,
    discover: Flag = False,
    verify: Flag = False,
    yes: Flag = False,
    dry_run: Flag = False,
    json: Json = False,
) -> int:
    """Create a settings file and a database for your folders of photographs.

    The command shows what it found and what it would write, and asks before it writes. It overwrites no file, and
    does not change or move a photograph. The layout of a library is LIBRARY/TENANT/PROJECT/photo.jpg. If your folders
    have only a part of it, such as a folder of albums, the command finds out which part; otherwise it shows what to
    move.

    Args:
        folder: The folder with the photographs: a library, a folder of projects (albums), or one project. If no folder
            is given, the command asks for one on a terminal.
        into: The folder for the settings file and the SQLite database.
        database: The URL of the database, or the path of an SQLite file; by default PHOTOJOBS_DATABASE_URL, else
            photojobs.db beside the settings file. An existing database gets only a schema upgrade.
        layout: What the folder is; by default the command finds out from its contents.
        discover: Also add folders as projects, and files as photos. This writes a manifest, `.project.yaml`, into each
            folder that has none, and thumbnails and previews into hidden folders beside the photographs.
        verify: Read originals again each week, at most 100 GB, to find corrupt ones; no file is changed. Without this
            option, and without your consent on a terminal, the settings file switches this check off.
        yes: Do not ask questions.
        dry_run: Only show what would be written.
    """
    can_ask = _is_asked() and not (yes or dry_run or json)
    if folder is None:
        if not can_ask:
            raise BadInput(
                "init: which folder? Name the folder with your photographs, as in `photojobs init ~/Pictures`."
            )
        folder = Path(_ask("Where are your photographs?", default=str(Path.cwd())))
    setup = set_up(survey_library(folder, DEFAULT_EXTENSIONS, layout=layout), into=into, database=database)
    setup = replace(setup, verifies=verify)
    if not json:
        _show_even_unread(setup, is_agreed=yes and not dry_run)
    if dry_run:
        if json:
            print_json(_document(setup, is_written=False))
        remark("Nothing was written.")
        return 0
    if not _has_consent(setup, layout, can_ask=can_ask, yes=yes):
        confirm("Nothing was written.")
        return 0
    if can_ask and not verify:
        verify = _agrees(
            "Read originals again each week (verify_originals, at most 100 GB) to find silent corruption?",
            default=False,
        )
        setup = replace(setup, verifies=verify)
    settings = write_setup(setup)
    if not json:
        confirm(f"Written: {setup.settings_file} and the database.")
    tenants = setup.survey.tenant_ids
    if can_ask and not discover and tenants:
        discover = _agrees(
            "Add the folders as projects now? They get a manifest (.project.yaml), thumbnails and previews.",
            default=True,
        )
    summaries = []
    if discover and tenants:
        try:
            summaries = discover_projects(
                settings,
                tenants,
                follow=lambda runtime, task_id: following(runtime, task_id, is_shown=not json),
            )
        except PhotojobsError as error:
            commands = [f"`photojobs run folder_discovery{tenant}`" for tenant in setup.tenant_options]
            raise RunBrokenOff(
                f"the files were written, but not every folder was added: {error} To add the others, run "
                f"{listed(commands, last='and')}."
            ) from error
    if json:
        print_json(_document(setup, is_written=True, summaries=summaries))
    elif not is_quiet():
        for summary in summaries:
            print_summary(summary)
        _show_next(setup, is_discovered=bool(summaries))
    return TASK_FAILED if any(summary.task.status != "completed" for summary in summaries) else 0


def _is_asked() -> bool:
    return sys.stdin.isatty() and messages().is_terminal


def _has_consent(setup: LibrarySetup, layout: Layout | None, *, can_ask: bool, yes: bool) -> bool:
    if can_ask:
        return _agrees("Write these files?", default=not setup.survey.neighbors)
    if not yes:
        raise BadInput(
            "init: nothing was written, because there is no terminal for questions. Use --yes to write the files, or "
            "--dry-run to see them."
        )
    if setup.survey.neighbors and layout is None:
        raise BadInput(
            f"init: {setup.survey.folder} is one project, and the folders beside it would be projects of the same "
            "library. If you want that, add --layout project. Else name another folder."
        )
    return True


def _show_even_unread(setup: LibrarySetup, *, is_agreed: bool) -> None:
    try:
        _show(setup)
    except BrokenPipeError:
        if not is_agreed:
            raise
        # The program that reads the output, such as `head`, has ended. Because of --yes, the files are still written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(setup: LibrarySetup) -> None:
    survey = setup.survey
    as_what = {
        Layout.LIBRARY: "a library: a folder for each tenant, with a folder for each project",
        Layout.TENANT: f'a folder of projects; their tenant is "{survey.folder.name}", the name of the folder',
        Layout.PROJECT: f'one project of the tenant "{survey.folder.parent.name}"',
    }[survey.layout]
    print_fields(
        {
            "folder": survey.folder,
            "found as": as_what,
            "projects": len(survey.projects),
            "photographs": survey.photos,
            "library root": survey.root,
            "settings": f"{setup.settings_file}, new",
            "database": _database(setup),
        }
    )
    if survey.projects:
        say("")
        print_table(
            ("tenant", "project", "photographs", "other files", "manifest"),
            [
                (one.tenant_id, one.folder, one.photos, one.other_files, one.has_manifest)
                for one in survey.projects[:SHOWN_PROJECTS]
            ],
            numbers=("photographs", "other files"),
        )
        if len(survey.projects) > SHOWN_PROJECTS:
            say(f"and {len(survey.projects) - SHOWN_PROJECTS} more")
    for line in (*_remarks(survey), *_overridden(setup)):
        say(f"note: {line}")


def _database(setup: LibrarySetup) -> str:
    from storage.database.database_url import shown_text

    place = shown_text(setup.database_url)
    if setup.report is None:
        return f"{place}, new"
    if setup.report.revision == setup.report.newest_revision:
        return f"{place}, not changed"
    has_backup = bool(setup.report.counts) and setup.database_url.startswith("sqlite")
    return f"{place}, upgraded to the newest schema" + (" after a backup" if has_backup else "")


def _overridden(setup: LibrarySetup) -> Iterator[str]:
    for name in setup.overriding_variables:
        what = "names another settings file" if name == "PHOTOJOBS_CONFIG" else "overrides the settings file"
        yield f"the environment variable {name} {what}. Unset it to use {setup.settings_file}."


def _remarks(survey: LibrarySurvey) -> Iterator[str]:
    if not survey.projects:
        yield (
            "there is no project yet. Photographs belong in LIBRARY/TENANT/PROJECT/, as in "
            f"{survey.root}/user_0/Summer/photo.jpg; `photojobs library add-project Summer` creates such a folder."
        )
    if survey.neighbors:
        yield (
            f"{survey.folder.name} is one project. Beside it, the tenant has "
            f"{'another project' if len(survey.neighbors) == 1 else 'other projects'}: {_listed(survey.neighbors)}."
        )
    if survey.loose:
        yield (
            f"{_count(survey.loose)} above the projects, where photojobs reads nothing: {_listed(survey.loose)}. "
            f"Move {'it' if len(survey.loose) == 1 else 'them'} into a project."
        )
    if survey.deeper:
        yield (
            f"{_count(survey.deeper)} in folders within a project, where photojobs reads nothing: "
            f"{_listed(survey.deeper)}. A project's photographs must be directly in its folder."
        )
    for folder in survey.unreadable:
        yield f"this folder cannot be read: {folder}. Correct its permissions, or check its disk."
    for name in survey.unsafe:
        yield f"this folder cannot be a project until you rename it: {name}"
    if survey.sharing:
        yield (
            f"pictures whose names differ only in the suffix count as one photo: "
            f"{_listed(survey.sharing, separator='; ')}. If they "
            "are different pictures, rename them."
        )
    folders = Counter(project.folder for project in survey.projects)
    twice = sorted(name for name, count in folders.items() if count > 1)
    if twice:
        yield (
            f"several tenants have a folder of the same name: {_listed(twice)}. In a database file that another "
            "program also uses, only one of these folders can become a project; rename the others."
        )


def _show_next(setup: LibrarySetup, *, is_discovered: bool) -> None:
    lines = [f"cd {shlex.quote(str(setup.settings_file.parent))}"] if setup.settings_file.parent != Path.cwd() else []
    lines.append("photojobs doctor")
    for tenant in setup.tenant_options:
        if setup.survey.projects and not is_discovered:
            lines.append(f"photojobs run folder_discovery{tenant}")
        if setup.survey.projects:
            lines.append(f"photojobs plan maintenance_global{tenant}")
            lines.append(f"photojobs run process_photos --all{tenant}")
    say("\nWhat to do next:")
    for line in lines:
        say(f"  {line}")


def _document(setup: LibrarySetup, *, is_written: bool, summaries: Sequence[TaskSummary] = ()) -> dict[str, Any]:
    return {
        "is_written": is_written,
        "settings_file": setup.settings_file,
        "settings": setup.settings_text,
        "survey": setup.survey,
        "database": setup.report,
        "discovery": [{"task_id": one.task.id, "status": one.task.status, "message": one.message} for one in summaries],
    }


def _listed(names: Sequence[str], *, separator: str = ", ") -> str:
    more = len(names) - EXAMPLES
    return separator.join(names[:EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def _count(names: Sequence[str]) -> str:
    return "1 photograph is" if len(names) == 1 else f"{len(names)} photographs are"


def _ask(question: str, *, default: str) -> str:
    from rich.prompt import Prompt

    try:
        return Prompt.ask(question, console=messages(), default=default)
    except EOFError:
        raise BadInput(
            "init: the input ended before the question was answered; nothing was written. Name the folder with your "
            "photographs, as in `photojobs init ~/Pictures`."
        ) from None


def _agrees(question: str, *, default: bool) -> bool:
    from rich.prompt import Confirm

    try:
        return Confirm.ask(question, console=messages(), default=default)
    except EOFError:
        # Ctrl-D means no. It leaves the cursor behind the question.
        messages().print()
        return False
