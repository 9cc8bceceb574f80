"""`photojobs db`: upgrade, check, back up, restore, downgrade and prune the database.

`storage.upkeep.retention` decides which rows are pruned, and `storage.upkeep.schema_upgrade` when a backup is made.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Flag, Json
from deployments.cli.output.terminal import confirm, print_fields, print_json, print_outcome, print_table, remark, say
from storage.database.engine import Database
from storage.settings import MAX_AGE_SECONDS, Settings

app = App(name="db", help="Upgrade, check, back up, restore, downgrade and prune the database.")

SECONDS_PER_DAY = 86_400

Days = Annotated[float, Parameter(validator=Number(gte=0, lte=MAX_AGE_SECONDS // SECONDS_PER_DAY))]


@app.command(name="upgrade")
def upgrade_database(*, json: Json = False) -> None:
    """Upgrade the database to the newest schema, in place.

    If the file belongs to a program from before photojobs, every row and id is kept, and that program can still use
    the file. Before the upgrade, an SQLite file with rows is copied to a backup in the same folder. A database with the
    newest schema is not changed. `photojobs db check` shows what an upgrade would do.
    """
    from storage.upkeep.schema_upgrade import upgrade

    with _database() as database:
        report = upgrade(database)
    if json:
        print_json(report)
    elif not report.is_changed:
        confirm(f"the database already has the newest schema, {report.to_revision}")
    else:
        print_fields(
            {
                "schema": f"{report.from_revision or 'none'} -> {report.to_revision}",
                "kind": ", ".join(report.legacy_kinds) or None,
                "backup": report.backup,
                "rows kept": sum(report.row_counts.values()) if report.row_counts else None,
            }
        )
        _list_changes(report.changes)
        for kept in report.kept:
            say(f"For other programs that use this file, {kept}.")
        if report.legacy_kinds:
            say(
                "By default, folders and files of users keep their names. To let the nightly upkeep rename them as "
                'before, set rename_user_files = "rename" in photojobs.toml.'
            )


@app.command(name="check")
def check_database(*, json: Json = False) -> int:
    """Check for damage, orphaned rows and impossible states, and show what an upgrade would do; nothing is changed.

    The exit code is 1 if something is wrong. Warnings do not change it.
    """
    from storage.upkeep.integrity import check

    with _database() as database:
        report = check(database)
    code = 0 if report.is_sound else TASK_FAILED
    if json:
        print_json({"is_sound": report.is_sound, "report": report})
        return code
    print_fields(
        {
            "database": report.database,
            "schema": f"{report.revision or 'none'}, the newest is {report.newest_revision}",
            "kind": ", ".join(report.legacy_kinds) or None,
        }
    )
    rows = [
        (
            name,
            count.rows,
            ", ".join(f"{number} {status or 'without a status'}" for status, number in count.by_status.items()),
        )
        for name, count in sorted(report.counts.items())
    ]
    if rows:
        print_table(("table", "rows", "statuses"), rows, numbers=("rows",))
    if report.upgrade_changes:
        say("an upgrade would make these changes:")
        _list_changes(report.upgrade_changes)
    for finding in report.findings:
        say(str(finding))
    say("nothing is wrong" if report.is_sound else "something is wrong; each error above says what to do")
    return code


@app.command(name="backup")
def back_up_database(target: Path | None = None, /, *, json: Json = False) -> None:
    """Copy the database into one file, and check that the copy is complete.

    On SQLite, the command copies the whole file, and other programs may write meanwhile. On PostgreSQL, it copies the
    tables of photojobs.

    Args:
        target: The file to write, or a folder; by default beside the SQLite file, or in the working folder for
            PostgreSQL. No file is ever overwritten.
    """
    from storage.upkeep.backup import backup

    with _database() as database:
        copy = backup(database, target)
    if json:
        print_json({"backup": copy})
    else:
        say(str(copy))


@app.command(name="restore")
def restore_database(archive: Path, /, *, json: Json = False) -> None:
    """Fill an empty database from a backup.

    PHOTOJOBS_DATABASE_URL must name an empty database, or an SQLite file that does not exist yet. Restore into a new
    database, check it, and then use it in place of the old one.

    Args:
        archive: A file that `photojobs db backup` or an upgrade wrote.
    """
    from storage.upkeep.backup import restore

    with _database() as database:
        restore(database, archive)
        place = database.url
    print_outcome(f"restored {archive} into {place}", {"restored": archive, "database": place}, json=json)


@app.command(name="downgrade")
def downgrade_database(
    *, revision: str = "0001", force: Flag = False, backup: Path | None = None, json: Json = False
) -> None:
    """Back up the database, and downgrade its schema to an older one; everything that newer schemas added is dropped.

    Args:
        revision: The older schema; 0001 is the schema of the programs from before photojobs.
        force: Downgrade even if tasks have not ended, projects lose their tenants, or files of interrupted moves were
            not moved back. Jobs of unfinished tasks become standalone jobs.
        backup: The backup file to write, or a folder for it.
    """
    from storage.upkeep.schema_upgrade import downgrade

    with _database() as database:
        report = downgrade(database, revision, force=force, backup_to=backup)
    if json:
        print_json(report)
    else:
        print_fields({"schema": f"{report.from_revision} -> {report.to_revision}", "backup": report.backup})


@app.command(name="prune")
def prune_database(*, older_than_days: Days, dry_run: Flag = False, json: Json = False) -> None:
    """Remove the history of tasks and jobs that ended long ago.

    The command keeps unfinished tasks and jobs, and tasks whose files can still be restored from the trash. It does not
    change photographs or their rows. It keeps tasks and jobs on which rows of other programs depend, and names the
    first of them. It works in small batches, so other programs hardly wait. If it is interrupted, run it again to
    continue.

    Args:
        older_than_days: Remove only tasks and jobs that ended more than this many days ago.
        dry_run: Only show how many rows would be removed.
    """
    from storage.upkeep.retention import count_prunable, prune

    settings = Settings.load()
    with opened_database(settings=settings, upgrade=not dry_run) as database:
        pruned = (count_prunable if dry_run else prune)(
            database,
            older_than_seconds=older_than_days * SECONDS_PER_DAY,
            keep_journal_seconds=settings.trash_ttl_seconds,
        )
    if json:
        print_json(pruned)
    else:
        counts = asdict(pruned)
        reasons = counts.pop("reasons")
        print_fields({name.replace("_", " "): count for name, count in counts.items()})
        for name, reason in reasons.items():
            say(f"{name}: {reason}")
        if dry_run:
            remark(
                "Nothing was removed. A run without --dry-run would remove these rows, but not those counted as kept."
            )


def _database() -> closing[Database]:
    # The database is not upgraded, because these commands also work on databases with an older or a newer schema.
    return closing(Database(Settings.load().database_url.get_secret_value()))


def _list_changes(changes: tuple[str, ...]) -> None:
    for change in changes:
        say(f"  {change}")
