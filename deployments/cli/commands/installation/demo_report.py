"""Prints what the demo shows: the library and its faults, the repairs, SQL queries, and what to try next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from shlex import quote

from sqlalchemy import text

from deployments.cli.output.terminal import output, print_table, say
from deployments.demo.folder import DemoFolder
from deployments.demo.library import DemoLibrary
from deployments.demo.snapshot import Snapshot
from storage.database.engine import Database
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary
from task_definitions.wording import quantity

#: How many names are shown for each kind of change.
EXAMPLES = 3

#: How many differences are shown if the second run changed something, which it must not do.
DIFFERENCES = 20

FAILED_ITEMS = (
    "SELECT filename, message, count(*) AS times FROM job_items WHERE status = 'failed' GROUP BY 1, 2 ORDER BY 1"
)

QUERIES = (
    """SELECT task_type, type, status, priority, scope, count(*) AS jobs, sum(progress_total) AS items
FROM jobs GROUP BY 1, 2, 3, 4, 5 ORDER BY min(id)""",
    """SELECT id, tenant_id, type, chunk_index, total_chunks, progress_done, progress_total, status
FROM jobs WHERE total_chunks > 1 ORDER BY id""",
    "SELECT status, count(*) AS items FROM job_items GROUP BY status",
    "SELECT thumbnail_status, preview_status, count(*) AS photos FROM photos GROUP BY 1, 2",
    "SELECT action, count(*) AS moves_and_removals FROM file_journal GROUP BY action",
)


def title(words: str) -> None:
    """Print a title."""
    output().print()
    output().print(words, style="bold", markup=False, soft_wrap=True)


def print_library(place: DemoFolder, made: DemoLibrary, *, large: int) -> None:
    """Print a summary of the library and its faults."""
    say(
        f"A library in {place.library_root}: {quantity(len(made.tenant_ids), 'tenant')}, "
        f"{quantity(len(made.project_ids), 'project')}, "
        f"{made.jpegs} JPEGs ({large} of 24 megapixels), {made.pngs} PNGs; its rows in {place.database_path}"
    )
    title("Faults in the library")
    print_table(("number", "what"), [(number, what) for what, number in made.faults.items()], numbers=("number",))


def print_repaired(database: Database, nights: Sequence[TaskSummary]) -> None:
    """Print the changes of upkeep, with the first names of each kind."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[str]] = {}
    for summary in nights:
        for job in TasksRepository(database).list_jobs(summary.task.id):
            for what, number in job.result.get("counts", {}).items():
                counts[job.type, what] += number
                examples.setdefault((job.type, what), []).extend(job.result.get("examples", {}).get(what, []))
    title("What two nights of upkeep found and repaired")
    rows = [
        (step, number, what, "; ".join(dict.fromkeys(examples[step, what][:EXAMPLES])))
        for (step, what), number in counts.items()
        if what != "unchanged"
    ]
    print_table(("step", "number", "what", "for example"), rows, numbers=("number",))


def print_failures(database: Database) -> None:
    """Print which photos failed, and why."""
    title("What failed and why, while everything else went on")
    _print_query(database, FAILED_ITEMS)


def print_sameness(before: Snapshot, after: Snapshot) -> None:
    """Print the differences that a second run made, or that it made none."""
    title("Run again")
    differences = before.differences(after)
    if not differences:
        say(
            f"Nothing changed: {len(after.files)} files have the same contents and times as before, and "
            f"{len(after.rows)} rows of projects, photos and tags have the same values."
        )
        return
    say(f"{len(differences)} files and rows differ, because the library was changed after the last run:")
    for line in differences[:DIFFERENCES]:
        say(f"  {line}")


def print_queries(database: Database) -> None:
    """Print a few SQL statements with their results."""
    title("The same in SQL")
    for statement in QUERIES:
        _print_query(database, statement)


def print_next(place: DemoFolder, *, took: str) -> None:
    """Print what to try next."""
    title(f"Done in {took}. Try next")
    for line in (
        f"export PHOTOJOBS_DATABASE_URL={quote(f'sqlite:///{place.database_path}')}",
        f"export PHOTOJOBS_LIBRARY_ROOT={quote(str(place.library_root))}",
        f"export PREFECT_HOME={quote(str(place.prefect_home))}",
        "photojobs up    # then open the address that it prints, and press Run on Global Maintenance",
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
    numbers = [name for index, name in enumerate(columns) if any(isinstance(row[index], int) for row in rows)]
    print_table(columns, rows, numbers=numbers)
