"""Runs a saved plan, except the projects and photos that have changed since the plan was made.

`_Preparation` decides what is left out; `flows.planning.refusals` compares the saved plan with a fresh one.
"""

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flows.api.start import run_new
from flows.errors import FlowsError
from flows.handlers.job_targets import LeftOut
from flows.planning.changes import Change
from flows.planning.plan import make_plan
from flows.planning.refusals import Comparison, Difference, Refusal
from flows.planning.saved_plan import SavedPlan
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.queue.new_tasks import NewTask
from storage.reports.task_summary import TaskSummary
from task_definitions import Scope

#: Largest number of comparisons of the saved plan with a fresh one. After each comparison, the projects and photos that
#: differ are left out, so only a library that changes all the time needs more comparisons.
MAX_ROUNDS = 20


class PlanUnsettled(FlowsError):
    """A saved plan was not run: the library keeps changing, or the run would still change a part that was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A saved plan after the comparison with the current library.

    Attributes:
        new: the task that carries out the unchanged part of the plan; None if nothing is left to do.
        refusals: the projects, folders and photos that are left out, with reasons.
    """

    new: NewTask | None
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """The result of running a saved plan.

    Attributes:
        summary: the summary of the task; None if nothing was left to do and no task was started.
        refusals: the projects, folders and photos that were left out, with reasons.
    """

    summary: TaskSummary | None
    refusals: tuple[Refusal, ...]


def run_saved_plan(path: Path) -> PlannedRun:
    """Run a saved plan in this process, except the projects and photos that have changed since the plan was made.

    The function first makes a fresh plan. If the changes of a project differ from the saved plan, the project is left
    out, and the result names it; for a photo set, only the photo is left out. The comparison repeats until the fresh
    plan has only changes that the saved plan also has. The run uses the definition as it was saved in the plan, even if
    the definition's file has changed.

    Raises:
        PlanFileError: the file cannot be read, is not a plan, or is incomplete.
        PlanOutdated: a setting that affects the run has changed since the plan was made.
        PlanUnsettled: the library keeps changing during the comparison, or the run would still change a project or
            photo that was left out.
        RunBroken: the flow run ended before the task ended; see `run_task`.
    """
    runtime = Runtime.current()
    prepared = prepare_run(SavedPlan.read(path), runtime)
    if prepared.new is None:
        return PlannedRun(summary=None, refusals=prepared.refusals)
    return PlannedRun(summary=run_new(prepared.new, runtime), refusals=prepared.refusals)


arun_saved_plan = in_thread(run_saved_plan)


def prepare_run(saved: SavedPlan, runtime: Runtime) -> PreparedRun:
    """Return the part of a saved plan that can still be run; start no task. Raises the errors of `run_saved_plan`."""
    saved.check_settings(runtime.settings)
    return _Preparation(saved, runtime).prepare()


class _Preparation:
    def __init__(self, saved: SavedPlan, runtime: Runtime) -> None:
        self._saved = saved
        self._runtime = runtime
        self._left_out = LeftOut.of_payload(saved.task.payload or {})
        # Photos that are left out, by project id and base name. Their changes in the saved plan are ignored.
        self._left_photos: set[tuple[int | None, str | None]] = set()
        self._refusals: list[Refusal] = []
        self._items = self._items_that_exist()
        #: The first failure of each step of the fresh plan, by the index and the type of the step.
        self._failures: dict[tuple[int, str], str] = {}

    def prepare(self) -> PreparedRun:
        with (
            tempfile.TemporaryDirectory(prefix="photojobs-plan-") as folder,
            Comparison(Path(folder) / "changes.db") as comparison,
        ):
            for change in self._saved.changes():
                comparison.add(change, to="saved")
            for _ in range(MAX_ROUNDS):
                payload = {**(self._saved.task.payload or {}), **self._left_out.to_payload()}
                new = replace(self._saved.task, id=str(uuid.uuid4()), items=self._items, payload=payload)
                has_changes = self._plan(new, comparison)
                found = [one for one in comparison.differences() if one.fresh or not self._is_left_out(one.change)]
                if not found:
                    return PreparedRun(new=new if has_changes else None, refusals=tuple(self._refusals))
                self._refuse(found)
        raise PlanUnsettled(
            f"{self._saved.path}: nothing was started, because the library kept changing while it was compared with "
            "the plan. Run the plan again when no other program changes the library."
        )

    def _plan(self, new: NewTask, comparison: Comparison) -> bool:
        """Add the changes of a fresh plan to the comparison. Return whether the fresh plan has any change."""
        comparison.forget_fresh()
        if self._items is not None and not self._items:
            return False
        add = partial(comparison.add, to="fresh")
        plan = make_plan(self._runtime, new, is_thorough=self._saved.is_thorough, on_change=add)
        self._failures = {(step.index, step.type): step.errors[0] for step in plan.steps if step.errors}
        return not plan.is_empty

    def _refuse(self, found: list[Difference]) -> None:
        known = self._photo_ids(found)
        settled: set[str] = set()
        # Photos come first: if a photo differs, the values of its project may differ only for this reason.
        for difference in sorted(found, key=lambda one: not self._is_of_item_step(one.change)):
            change = difference.change
            key = (change.project_id, change.photo)
            is_of_photo = self._is_of_photo(change) and key not in self._left_photos
            if not is_of_photo and change.project in settled:
                continue
            settled.add(change.project)
            name = self._leave_out(change, known.get(key), is_of_photo=is_of_photo)
            self._refusals.append(Refusal(name=name, reason=difference.reason(cause=self._cause(change))))

    def _cause(self, change: Change) -> str | None:
        failure = self._failures.get((change.step, change.type))
        if failure is not None:
            return f"the step {change.type} would fail: {failure.rstrip('.')}"
        projects = ProjectsRepository(self._runtime.database)
        project = None if change.project_id is None else projects.get_by_id(change.project_id)
        archived_at = None if project is None or not project.is_archived else project.archived_at
        if archived_at is not None and archived_at > self._saved.made_at:
            return "the project is archived now"
        if self._runtime.database.clock() < self._saved.made_at:
            return "the database's clock was set back after the plan was made; correct this clock, or make a new plan"
        return None

    def _leave_out(self, change: Change, photo_id: int | None, *, is_of_photo: bool) -> str:
        before = self._left_out
        if is_of_photo:
            self._left_photos.add((change.project_id, change.photo))
            if photo_id is not None:
                self._left_out = replace(before, photos=before.photos | {photo_id})
            return f"{change.photo} of {change.project}"
        if change.project_id is not None:
            name = f"project {change.project}"
            self._left_out = replace(before, projects=before.projects | {change.project_id})
        else:
            name = f"folder {change.project}"
            self._left_out = replace(before, folders=before.folders | {change.project})
        if self._left_out == before:
            raise PlanUnsettled(
                f"{self._saved.path}: nothing was started. {name} differs from the plan and was left out, but the run "
                "would still change it. Make a new plan."
            )
        return name

    def _items_that_exist(self) -> list[Mapping[str, Any]] | None:
        if self._saved.task.items is None:
            return None
        items = list(self._saved.task.items)
        ids = [item["photo_id"] for item in items if item.get("photo_id") is not None]
        known = {photo.id for photo in PhotosRepository(self._runtime.database).get_many(ids)}
        return [item for item in items if item.get("photo_id") is None or item["photo_id"] in known]

    def _photo_ids(self, found: list[Difference]) -> dict[tuple[int | None, str | None], int]:
        wanted: dict[int, set[str]] = {}
        for change in (difference.change for difference in found):
            if change.project_id is not None and change.photo is not None and self._is_of_photo(change):
                wanted.setdefault(change.project_id, set()).add(change.photo)
        photos = PhotosRepository(self._runtime.database)
        return {
            (project_id, photo.filename): photo.id
            for project_id, names in wanted.items()
            for photo in photos.iterate_project(project_id)
            if photo.filename in names
        }

    def _is_of_item_step(self, change: Change) -> bool:
        steps = self._saved.task.definition.steps
        return change.step >= len(steps) or steps[change.step].unit == "items"

    def _is_of_photo(self, change: Change) -> bool:
        """Return whether the change belongs to one photo. A task that leaves out the photo does not make the change."""
        return self._saved.task.scope is Scope.PHOTO_SET and change.photo is not None and self._is_of_item_step(change)

    def _is_left_out(self, change: Change) -> bool:
        """Return whether a change of the saved plan belongs to a photo, project or folder that is left out."""
        if (change.project_id, change.photo) in self._left_photos:
            return True
        if change.project_id is None:
            return change.project in self._left_out.folders
        return change.project_id in self._left_out.projects
