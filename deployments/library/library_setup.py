"""Plans and writes a settings file and a database for folders of photographs."""

from __future__ import annotations

import json
import os
import shlex
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError

from deployments.errors import DeploymentsError
from deployments.library.library_survey import LibrarySurvey
from storage.database.database_url import sqlite_url
from storage.database.engine import Database
from storage.database.private_files import open_private
from storage.default_tenant import DEFAULT_TENANT
from storage.library.paths import absolute_path
from storage.queue.tasks import TasksRepository
from storage.records import TaskStatus
from storage.reports.task_summary import TaskSummary
from storage.settings import SETTINGS_FILE, Settings
from task_definitions.wording import shown

if TYPE_CHECKING:
    from flows.process.runtime import Runtime
    from storage.upkeep.integrity import IntegrityReport

#: The name of the SQLite file, which is beside the settings file if no other database is named.
DATABASE_FILE = "photojobs.db"

#: The definition that adds folders as projects, and their files as photos.
DISCOVERY = "folder_discovery"


class SetUpAlready(DeploymentsError):
    """The settings file exists already, and is not overwritten."""


class BadPlace(DeploymentsError):
    """The given folder cannot have the settings file and the database: it is missing or read-only, for example."""


class AnotherLibrary(DeploymentsError):
    """The projects in a database belong to another library than the surveyed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySetup:
    """The planned settings file and database of a library.

    Attributes:
        report: the result of the database's check; None if the database does not exist yet.
        verifies: whether the settings let originals be verified each week.
    """

    survey: LibrarySurvey
    settings_file: Path
    database_url: str
    report: IntegrityReport | None
    verifies: bool = False

    @property
    def settings_text(self) -> str:
        """The content of the settings file."""
        lines = [
            "# Settings of photojobs. Environment variables override them; `photojobs doctor` checks everything.",
            f"library_root = {_toml(str(self.survey.root))}",
            f"database_url = {_toml(self.database_url)}",
        ]
        if len(self.survey.tenant_ids) == 1 and self.survey.tenant_ids != (DEFAULT_TENANT,):
            lines.append(f"tenant = {_toml(self.survey.tenant_ids[0])}")
        if self.survey.tenant_ids not in ((), (DEFAULT_TENANT,)):
            lines.append(f"scheduled_tenants = [{', '.join(map(_toml, self.survey.tenant_ids))}]")
        if not self.verifies:
            lines += [
                "",
                "[schedules]",
                "# Reads originals again each week, 100 GB at most, to find silent corruption.",
                'verify_originals = "off"',
            ]
        return "\n".join(lines) + "\n"

    @property
    def tenant_options(self) -> tuple[str, ...]:
        """For each tenant, the option that selects it in a command; empty if commands use this tenant by default."""
        if len(self.survey.tenant_ids) <= 1:
            return ("",)
        return tuple(
            "" if tenant == DEFAULT_TENANT else f" --tenant {shlex.quote(tenant)}" for tenant in self.survey.tenant_ids
        )

    @property
    def overriding_variables(self) -> tuple[str, ...]:
        """The environment variables by which other commands would use another library, database or settings file."""
        set_up_here: dict[str, tuple[Callable[[str], object], object]] = {
            "PHOTOJOBS_CONFIG": (absolute_path, self.settings_file),
            "PHOTOJOBS_LIBRARY_ROOT": (absolute_path, self.survey.root),
            "PHOTOJOBS_DATABASE_URL": (_absolute_url, self.database_url),
        }
        return tuple(
            name
            for name, (meaning_of, ours) in set_up_here.items()
            if (value := os.environ.get(name)) is not None and meaning_of(value) != ours
        )


def set_up(survey: LibrarySurvey, *, into: Path, database: str | None = None) -> LibrarySetup:
    """Plan what to write for a library; nothing is written yet.

    The settings file will be in the existing folder `into`. `database` is a URL or the path of an SQLite file; by
    default, the variable PHOTOJOBS_DATABASE_URL names the database, else it is a file in `into`.

    Raises:
        SetUpAlready: a settings file exists.
        BadPlace: `into` is missing, or is the folder of a project.
        AnotherLibrary: the database has projects, and the library has no folder of any of them.
        InvalidSettings: the environment has a setting that is not valid.
        DatabaseUnavailable: the database cannot be opened.
    """
    into = absolute_path(into)
    if not into.is_dir():
        raise BadPlace(f"{into} is not a folder. Create it, or name another folder with --into.")
    for project in survey.projects:
        folder = survey.root / project.tenant_id / project.folder
        if into == folder or folder in into.parents:
            raise BadPlace(
                f"{into} is inside {folder}, which is a project. Settings and database belong elsewhere: change to "
                "another folder, or name one with --into."
            )
    file = into / SETTINGS_FILE
    if os.path.lexists(file):
        raise SetUpAlready(
            f"{file} already exists, and is not overwritten. `photojobs doctor` checks it. For another library, name "
            "another folder with --into."
        )
    # The import is here and not at the top, because a help page does not need the migrations.
    from storage.upkeep.integrity import check

    url = _database_url(database, into)
    # A wrong variable of the environment must be found before anything is written.
    Settings.load(database_url=url, library_root=survey.root)
    with closing(Database(url)) as planned:
        is_new = planned.path is not None and not planned.path.exists()
        report = None if is_new else check(planned)
        if report is not None and "projects" in report.counts:
            _check_same_library(planned, survey)
    return LibrarySetup(survey=survey, settings_file=file, database_url=url, report=report)


def write_setup(setup: LibrarySetup) -> Settings:
    """Create the database or upgrade it to the newest schema, write the settings file, and return the settings.

    Raises:
        SetUpAlready: another program has written the settings file meanwhile.
        BadPlace: the settings file cannot be written.
        StorageError: the database cannot be created or upgraded.
    """
    with closing(Database(setup.database_url)) as database:
        database.migrate()
    try:
        # The file is private because the database's URL may contain a password.
        with open_private(setup.settings_file, "xb") as file:
            file.write(setup.settings_text.encode())
    except FileExistsError:
        raise SetUpAlready(
            f"{setup.settings_file}: another program has written this file meanwhile. `photojobs doctor` checks it."
        ) from None
    except OSError as error:
        raise BadPlace(
            f"{setup.settings_file} cannot be written: {error.strerror}. Correct this, or name another folder "
            "with --into."
        ) from None
    return Settings.load(
        database_url=setup.database_url,
        library_root=setup.survey.root,
        scheduled_tenants=setup.survey.tenant_ids or (DEFAULT_TENANT,),
    )


def discover_projects(
    settings: Settings, tenant_ids: tuple[str, ...], *, follow: Callable[[Runtime, str], AbstractContextManager[object]]
) -> list[TaskSummary]:
    """Add the folders of tenants as projects, and their files as photos, in this process without Prefect.

    The tasks write rows, a manifest into each folder without one, thumbnails and previews; they change no photograph.
    The task of each tenant runs inside the context manager that `follow` makes from the runtime and the task's id.
    Return the summaries of the tasks; after a canceled task, no other task is started.
    """
    from flows.execution.plain_run import run_plainly
    from flows.process.runtime import Runtime
    from flows.starting.new_task import new_task
    from task_definitions import load_definitions

    summaries = []
    with Runtime.open(settings) as runtime, runtime.as_current():
        for tenant_id in tenant_ids:
            new = new_task(load_definitions()[DISCOVERY], task_id=str(uuid.uuid4()), tenant_id=tenant_id)
            TasksRepository(runtime.database).start(new)
            with follow(runtime, new.id):
                summaries.append(run_plainly(new.id, runtime))
            if summaries[-1].task.status == TaskStatus.CANCELED:
                break
    return summaries


def _check_same_library(database: Database, survey: LibrarySurvey) -> None:
    with database.connect() as connection:
        # The schema may be older, so only a column that each schema has is read.
        known = {str(folder) for (folder,) in connection.execute(text("SELECT project_folder FROM projects"))}
    if known and known.isdisjoint(project.folder for project in survey.projects):
        raise AnotherLibrary(
            f"{database.url} is the database of another library: {survey.root} has no folder of its projects, such as "
            f"{shown(min(known))}, so all of them would count as deleted. Mount the library's disk, or name another "
            "folder, or another database with --database."
        )


def _database_url(named: str | None, into: Path) -> str:
    return _absolute_url(named or os.environ.get("PHOTOJOBS_DATABASE_URL") or str(into / DATABASE_FILE))


def _absolute_url(named: str) -> str:
    """Return the URL of a database.

    A path of an SQLite file becomes absolute, because commands may run in other folders.
    """
    if "://" not in named:
        return sqlite_url(absolute_path(named))
    try:
        url = make_url(named)
    except (ArgumentError, ValueError):
        # `Database` reports what is wrong with the URL.
        return named
    is_file = url.drivername == "sqlite" and url.database not in (None, "", ":memory:") and "?" not in named
    return sqlite_url(absolute_path(str(url.database))) if is_file else named


def _toml(text: str) -> str:
    # A JSON string is a TOML string, except that TOML also requires an escape for the character 127.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
