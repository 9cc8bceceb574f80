"""Runs and undoes tasks on a random library, and reads the parts that an undo must restore."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from flows.execution.job_run import run_claimed_job
from flows.starting.new_task import new_task
from storage import JobsRepository, TasksRepository
from storage.database.tables import jobs, photo_tags, photos, project_claims, projects, tags
from storage.library.atomic_write import TEMPORARY_PREFIX
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER, TRASH_FOLDER
from storage.library.trash import parse_trash_name
from storage.queue.claims import Claimant, claim_by_id, promote_due
from storage.records import Job, Task
from task_definitions import Scope, load_definitions
from tests.flows.planning.worlds import NOW, World
from tests.flows.steps.conftest import Death
from tests.flows.steps.power_cuts import PowerCut

DEFINITIONS = load_definitions()
_DERIVED = ("thumbnail_status", "preview_status")


@dataclass(frozen=True)
class Cut:
    """A power cut at the n-th change; the seed chooses which changes are lost."""

    number: int
    seed: int


@dataclass(frozen=True)
class Look:
    """The state of a random library at one moment.

    Attributes:
        files: originals, sidecars, manifests and all other files outside of hidden folders, with their contents.
        folders: the folders of projects, and other folders beside them.
        trash: the files in the trash with their old names and contents; without manifests and files that may be purged.
        rows: the rows of projects, photos, tags and their links, without the moment of their last change.
        statuses: the statuses of thumbnails and previews, by photo.
        derivatives: the paths of thumbnails and previews.
    """

    files: dict[str, Any]
    folders: set[str]
    trash: list[tuple[str, bytes]]
    rows: dict[str, Any]
    statuses: dict[int, dict[str, Any]]
    derivatives: set[str]


def look(world: World) -> Look:
    """Read the current state of a library."""
    files: dict[str, Any] = {}
    folders: set[str] = set()
    trash: list[tuple[str, bytes]] = []
    derivatives: set[str] = set()
    for path in sorted(world.root.rglob("*")):
        place = path.relative_to(world.root)
        if path.name.startswith(TEMPORARY_PREFIX):
            continue  # A power cut leaves such files behind, and upkeep removes them.
        hidden = place.parts[2] if len(place.parts) > 2 else ""
        if hidden in (THUMB_FOLDER, PREVIEW_FOLDER):
            if path.is_file():
                derivatives.add(str(place))
        elif hidden == TRASH_FOLDER:
            parsed = parse_trash_name(path.name)
            if path.is_file() and parsed is not None and parsed.original_name != ".project.yaml":
                content = path.read_bytes()
                if content != b"thrown away":
                    trash.append((f"{place.parts[1]}/{parsed.original_name}", content))
        elif path.is_dir() and not path.is_symlink():
            folders.add(str(place))
        else:
            files[str(place)] = path.read_bytes() if path.is_file() and not path.is_symlink() else path.lstat().st_mode
    rows: dict[str, Any] = {}
    statuses: dict[int, dict[str, Any]] = {}
    with world.database.connect() as connection:
        for table in (projects, photos, tags, photo_tags):
            found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            rows[table.name] = [
                {name: value for name, value in row.items() if name != "updated_at" and name not in _DERIVED}
                for row in found
            ]
        for row in connection.execute(select(photos)).mappings():
            statuses[row["id"]] = {name: row[name] for name in _DERIVED}
    return Look(files, folders, sorted(trash), rows, statuses, derivatives)


def start(world: World, name: str, task_id: str, **payload: Any) -> bool:
    """Start a task of a built-in definition on project 2, all photos or the tenant; return False if it cannot start."""
    definition = DEFINITIONS[name]
    scope = definition.scope or Scope.PHOTO_SET
    ids = world.photo_ids()
    if scope is Scope.PHOTO_SET and not ids:
        return False
    new = new_task(
        definition,
        task_id=task_id,
        tenant_id="tenant",
        # Project 1 belongs to another tenant.
        project_id=None if scope is Scope.GLOBAL else 2,
        items=[{"photo_id": photo_id} for photo_id in ids] if scope is Scope.PHOTO_SET else None,
        payload=payload or None,
    )
    TasksRepository(world.database).start(new)
    return True


def run(world: World, task_id: str, *, cut: Cut | None = None) -> Task:
    """Run a task with its follow-up jobs to the end, with a power cut in its first job if `cut` is given."""
    tasks = TasksRepository(world.database)
    while True:
        task = tasks.settle(task_id)
        waiting = [] if task.is_final else tasks.unfinished_jobs(task, limit=1_000)
        if not waiting:
            return task
        job = min(waiting, key=lambda one: (-one.priority, one.id))
        with world.database.begin() as connection:
            promote_due(connection, now=NOW.replace(year=2100))
            claimed = claim_by_id(connection, Claimant(worker_id="worker", now=NOW), job.id)
        assert claimed is not None
        if cut is None:
            run_claimed_job(claimed, world.runtime)
        else:
            _cut_short(world, claimed, cut)
            cut = None


def _cut_short(world: World, job: Job, cut: Cut) -> None:
    power = PowerCut(cut.number, world.root, world.database, world.root.with_name(f"graves-{secrets.token_hex(8)}"))
    try:
        with power.at_work(), suppress(Death):
            run_claimed_job(job, world.runtime)
        if power.is_dead:
            power.cut(cut.seed)
            # Do the same as a rescue.
            JobsRepository(world.database).increment_attempts(job.id)
            JobsRepository(world.database).requeue(job.id)
            with world.database.begin() as connection:
                connection.execute(project_claims.delete())
    finally:
        power.close()


def undo(world: World, task_id: str, undo_id: str, *, cut: Cut | None = None) -> dict[str, Any]:
    """Undo a task; return the report of the undo's first job."""
    assert start(world, "undo", undo_id, undo=task_id)
    task = run(world, undo_id, cut=cut)
    with world.database.connect() as connection:
        statement = select(jobs.c.result_json, jobs.c.error_message).where(jobs.c.task_id == undo_id)
        report, error = connection.execute(statement.where(jobs.c.type == "undo")).one()
    assert error is None, error
    assert task.is_final
    return report or {}
