"""A plan shows the same changes as the run, step by step, for each built-in definition on random libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.planning import plan as planning
from flows.planning import shadow as shadows
from flows.planning.changes import Change
from flows.planning.plan import make_plan
from flows.planning.shadow import Shadow
from flows.starting.new_task import new_task
from storage.library.tree import LibraryTree
from storage.queue.new_tasks import NewTask
from storage.shadow.row_changes import RowChanges
from task_definitions import Scope, load_definitions
from tests.flows.planning.worlds import LibrarySpec, ProjectSpec, World, libraries, outcome
from tests.flows.undoing.looking import run, start

DEFINITIONS = load_definitions()

#: Definitions that cannot be started on a random library, with the reason.
EXCEPTIONS: dict[str, str] = {}


def test_every_built_in_definition_is_held_against_its_run_or_is_an_exception_with_a_reason() -> None:
    assert EXCEPTIONS.keys() <= DEFINITIONS.keys()
    assert all(EXCEPTIONS.values())


def _check(name: str, spec: LibrarySpec, make_world: Callable[..., World], tmp: Path, **options: Any) -> None:
    world = make_world(spec, unaccepted_files=options["unaccepted_files"])
    definition = DEFINITIONS[name]
    scope = definition.scope or Scope.PHOTO_SET
    payload: dict[str, Any] | None = {"force": True} if options["is_forced"] else None
    if name == "undo":
        payload = {"undo": "before"}
        if not start(world, options["undone"], "before"):
            return
        run(world, "before")
    ids = world.photo_ids()
    if scope is Scope.PHOTO_SET and not ids:
        return
    new = new_task(
        definition,
        task_id="task",
        tenant_id="tenant",
        # Project 1 belongs to another tenant.
        project_id=None if scope is Scope.GLOBAL else 2,
        items=[{"photo_id": photo_id} for photo_id in ids] if scope is Scope.PHOTO_SET else None,
        payload=payload,
    )
    before = world.everything()
    is_whole = options["is_whole"] or scope is Scope.GLOBAL
    looks_around = shadows._looks_around
    with patch.object(shadows, "_looks_around", lambda name: is_whole or looks_around(name)):
        planned, ends = _plan(world, new, is_thorough=options["is_thorough"])
    assert world.everything() == before
    done = _run(world, new, tmp)
    assert sorted(change.to_json() for change in planned) == sorted(change.to_json() for change in done)
    assert [Change.from_json(change.to_json()).to_json() for change in planned] == [one.to_json() for one in planned]
    if is_whole:
        # Otherwise the shadow has only the projects that the task can reach.
        assert ends == outcome(world.root, world.database)


def _plan(world: World, new: NewTask, *, is_thorough: bool) -> tuple[list[Change], dict[str, Any]]:
    """Return the changes of the plan, and the final state of its shadow."""
    changes: list[Change] = []
    ends: list[dict[str, Any]] = []
    steps = planning._Planner.steps

    def look(planner: Any) -> Any:
        ends.append(outcome(planner._shadow.root, planner._database))
        return steps(planner)

    with patch.object(planning._Planner, "steps", look):
        made = make_plan(world.runtime, new, is_thorough=is_thorough, on_change=changes.append)
    assert sum(made.counts.values()) == len(changes)
    return changes, ends[0]


def _run(world: World, new: NewTask, tmp: Path) -> list[Change]:
    """Run the task on the library itself, and return the changes in the form of a plan."""
    changes: list[Change] = []
    scratch = tmp / f"{len(list(tmp.iterdir()))}.db"
    with ExitStack() as stack:
        tree = stack.enter_context(LibraryTree(world.root, scratch))
        tree.look()
        real: Any = Shadow(
            runtime=world.runtime,  # type: ignore[arg-type]
            tree=tree,
            rows=RowChanges(world.database),
            root=world.root,
            real_root=world.root,
        )
        planning._Planner(real, new, world.database.clock(), changes.append).run()
    return changes


_OPTIONS = st.fixed_dictionaries(
    {
        "is_thorough": st.booleans(),
        "is_forced": st.booleans(),
        "is_whole": st.booleans(),
        "unaccepted_files": st.sampled_from(["keep", "trash"]),
        "undone": st.sampled_from(sorted(set(DEFINITIONS) - {"undo"})),
    }
)


@pytest.mark.parametrize("name", sorted(set(DEFINITIONS) - set(EXCEPTIONS)))
@settings(max_examples=min(4, settings().max_examples // 3), suppress_health_check=list(HealthCheck))
@given(spec=libraries(), options=_OPTIONS)
def test_the_plan_is_what_the_run_does(
    name: str, spec: LibrarySpec, options: dict[str, Any], make_world: Callable[..., World], tmp_path: Path
) -> None:
    _check(name, spec, make_world, tmp_path, **options)


def test_a_link_that_is_removed_frees_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(LibrarySpec((ProjectSpec("Iceland", folder="Iceland", others=("link",)),)))
    (world.root / "tenant" / "Iceland" / "nowhere.jpg").symlink_to("too long" * 100)
    new = new_task(DEFINITIONS["project_delete"], task_id="task", tenant_id="tenant", project_id=2)
    planned, _ = _plan(world, new, is_thorough=False)
    assert [change.size_bytes for change in planned if change.photo in {"link", "nowhere"}] == [0, 0]


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(set(DEFINITIONS) - set(EXCEPTIONS)))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(spec=libraries(), options=_OPTIONS)
def test_the_plan_is_what_the_run_does_on_many_libraries(
    name: str, spec: LibrarySpec, options: dict[str, Any], make_world: Callable[..., World], tmp_path: Path
) -> None:
    _check(name, spec, make_world, tmp_path, **options)
