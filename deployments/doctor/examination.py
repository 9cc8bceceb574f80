"""Runs all checks in order; an error during a check becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from sqlalchemy import text

from deployments.doctor.database import examine_database
from deployments.doctor.finding import Area, Finding, Standing
from deployments.doctor.installation import examine_packages, examine_prefect, examine_steps
from deployments.doctor.library import examine_folders, examine_library, examine_originals
from deployments.doctor.pictures import examine_pictures
from deployments.doctor.schedules import examine_schedules
from deployments.doctor.surroundings import examine_clocks, examine_space
from storage.database.engine import Database
from storage.settings import Settings, settings_file
from task_definitions.errors import PhotojobsError


def examine(settings: Settings) -> Iterator[Finding]:
    """Check this installation and everything that the settings name.

    No data is changed: experiments in the library create hidden files and folders, and remove them at the end.
    """
    file = settings_file()
    says = "There is no settings file; the environment and the defaults apply."
    yield Area("settings").fine(
        "file", says if file is None else f"The settings come from {file.resolve()} and the environment."
    )
    with closing(Database(settings.database_url.get_secret_value())) as database:
        findings = list(_safely("database", lambda: examine_database(database)))
        yield from findings
        opens = any(finding.name == "opens" and finding.standing is Standing.FINE for finding in findings)
        library = settings.library
        has_projects = opens and _has_projects(database)
        yield from _safely("library", lambda: examine_library(library, has_projects=has_projects))
        yield from _safely("packages", examine_packages)
        yield from _safely("prefect", examine_prefect)
        yield from _safely("pictures", examine_pictures)
        yield from _safely("steps", lambda: examine_steps(settings))
        yield from _safely("space", lambda: examine_space(settings, database))
        if opens:
            if any(finding.name == "schema" and finding.standing is Standing.FINE for finding in findings):
                yield from _safely("library", lambda: examine_folders(library, database))
                yield from _safely("originals", lambda: examine_originals(database))
            yield from _safely("schedules", lambda: examine_schedules(settings, database))
            yield from _safely("clocks", lambda: examine_clocks(settings, database))


def _safely(area: str, examine_area: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from examine_area()
    except OSError as error:
        yield Area(area).problem(
            "examination",
            f"The check was not completed: {error}.",
            "Check the path, its permissions and its disk.",
        )
    except PhotojobsError as error:
        yield Area(area).problem(
            "examination", f"The check was not completed: {error}", "Correct this, and run `photojobs doctor` again."
        )
    except Exception as error:  # noqa: BLE001 - one failed check must not hide the others.
        yield Area(area).problem(
            "examination",
            f"The check ended with an error: {type(error).__name__}: {error}",
            "This is a bug in photojobs. Please report it with the output of `photojobs doctor --verbose`.",
        )


def _has_projects(database: Database) -> bool:
    try:
        with database.connect() as connection:
            return connection.execute(text("SELECT 1 FROM projects LIMIT 1")).first() is not None
    except Exception:  # noqa: BLE001 - a database without the table has no projects.
        return False
