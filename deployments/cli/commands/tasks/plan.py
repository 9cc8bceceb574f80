"""`photojobs plan`: show what a definition would do to each project in each step, and change nothing.

`flows.planning.plan` makes the plan, and decides how many projects and examples it keeps.
`photojobs run` with a saved plan uses `flows.api.saved_plan_run`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cyclopts import App

from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import DefinitionName, Flag, Json
from deployments.cli.options.signals import removing_temporary_files
from deployments.cli.options.task_options import TaskOptions, TaskRequest, read_request
from deployments.cli.output.terminal import print_json, print_table, remark, say, warn
from flows.planning.changes import ACTIONS
from flows.planning.plan import Plan, PlannedStep, Tally, plan_task
from flows.process.runtime import Runtime
from flows.starting.start_targets import check_targets
from storage.database.engine import Database
from storage.settings import Settings

COLUMNS = ("step", "project", "would", "first")

#: The largest number of examples, such as names of photos, in a row of the table.
EXAMPLES = 2

app = App(name="plan")


@app.default
def plan(
    name: DefinitionName,
    /,
    options: TaskOptions | None = None,
    *,
    save: Path | None = None,
    thorough: Flag = False,
    json: Json = False,
) -> int:
    """Show what a definition would do; change nothing.

    Args:
        save: Write all changes to this new file, one on each line; `photojobs run --plan FILE` carries them out.
        thorough: Decode every picture that needs a thumbnail or preview; by default, only file headers are checked for
            damage.
    """
    settings = Settings.load()
    request = read_request(name, options or TaskOptions(), settings)
    with (
        removing_temporary_files(),
        _opened(settings, request) as database,
        Runtime(database, settings=settings) as runtime,
        runtime.as_current(),
    ):
        check_targets(request.new, database)
        arguments = {name: value for name, value in request.arguments().items() if name != "task_id"}
        made = plan_task(**arguments, thorough=thorough, save=save)
    if json:
        print_json(plan_document(made))
    else:
        print_plan(made)
    return TASK_FAILED if made.would_fail else 0


@contextmanager
def _opened(settings: Settings, request: TaskRequest) -> Iterator[Database]:
    """Open the database, or an empty one in a temporary folder if none exists and the plan needs no rows."""
    file = Database(settings.database_url.get_secret_value()).path
    if file is None or file.exists() or request.needs_rows or not settings.library_root.is_dir():
        with opened_database(settings=settings) as database:
            yield database
        return
    with (
        tempfile.TemporaryDirectory(prefix="photojobs-plan-") as folder,
        closing(Database(Path(folder) / "empty.db")) as empty,
    ):
        empty.migrate()
        yield empty


def print_plan(made: Plan) -> None:
    """Print what each step would do, why steps would fail, and the totals."""
    print_table(COLUMNS, [row for step in made.steps for row in _rows(step)])
    for step in made.steps:
        for reason in step.errors:
            warn(f"{step.type} would fail: {reason.splitlines()[0]}")
    say(f"{made.message}. Nothing has been changed.")
    if made.saved_as is not None:
        remark(
            f"`photojobs run --plan {made.saved_as}` carries out the plan, except for files and rows that have changed "
            "by then."
        )


def plan_document(made: Plan) -> dict[str, Any]:
    """Return the plan as a JSON document."""
    return {
        "type": made.type,
        "tenant_id": made.tenant_id,
        "scope": made.scope,
        "project_id": made.project_id,
        "made_at": made.made_at,
        "message": made.message,
        "counts": made.counts,
        "freed_bytes": made.freed_bytes,
        "would_fail": made.would_fail,
        "steps": [
            {
                "step": step.index,
                "type": step.type,
                "status": step.status,
                **_numbers(step.tally),
                "projects": {name: _numbers(tally) for name, tally in step.projects.items()},
                "remarks": {what: {"count": count, "first": first} for what, (count, first) in step.remarks.items()},
                "errors": step.errors,
                "left": step.left,
            }
            for step in made.steps
        ],
    }


def _numbers(tally: Tally) -> dict[str, Any]:
    return {"counts": dict(tally.counts), "freed_bytes": tally.freed_bytes, "first": tally.examples}


def _rows(step: PlannedStep) -> Iterator[tuple[str, str, str, str]]:
    if step.status == "skipped":
        yield (step.type, "", "not run", "")
    elif not step.projects:
        yield (step.type, "", "do nothing" if step.status == "completed" else "fail", "")
    title = step.type
    for name, tally in step.projects.items():
        firsts = [first for action in ACTIONS for first in tally.examples.get(action, ())[:EXAMPLES]]
        freed = f" ({tally.freed_bytes:,} bytes)" if tally.freed_bytes else ""
        yield (title, name, tally.in_words() + freed, "; ".join(firsts[:EXAMPLES]))
        title = ""
