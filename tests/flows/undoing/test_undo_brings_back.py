"""After an undo of any task on a random library, everything is as before; after an undo of the undo, as after the task.

This also holds after a power cut in an undo.

Thumbnails and previews follow the photographs: those that a task added are removed, and those that it removed are made
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.starting.new_task import new_task
from storage import Database, TasksRepository
from task_definitions import load_definitions
from tests.flows.planning.worlds import NOW, LibrarySpec, PhotoSpec, ProjectSpec, World, libraries
from tests.flows.undoing.looking import DEFINITIONS, Cut, Look, look, run, start, undo

NAMES = sorted(DEFINITIONS.keys() - {"undo"})

#: Definitions that remove folders of projects permanently.
FOR_GOOD = {"project_delete", "project_scavenge", "project_scavenge_global"}

_OPTIONS = st.fixed_dictionaries(
    {
        "is_forced": st.booleans(),
        "unaccepted_files": st.sampled_from(["keep", "trash"]),
        "cut": st.none() | st.builds(Cut, number=st.integers(0, 80), seed=st.integers(0, 7)),
        "is_unplugged": st.booleans(),
    }
)


def _check(name: str, spec: LibrarySpec, make_world: Callable[..., World], options: dict[str, Any]) -> None:
    world = make_world(spec, unaccepted_files=options["unaccepted_files"])
    before = look(world)
    if not start(world, name, "task", **({"force": True} if options["is_forced"] else {})):
        return
    run(world, "task")
    after = look(world)

    is_unplugged = options.get("is_unplugged") and _undo_without_disk(world)
    report = undo(world, "task", "undo", cut=options["cut"])

    undone = look(world)
    if name in FOR_GOOD and (after.folders != before.folders or len(after.rows["photos"]) < len(before.rows["photos"])):
        assert any("permanently" in reason for reason in report["left"].values())
        return
    # A folder that the task created for a project stays; the undo moves its files to its trash.
    made = {
        folder for folder in after.folders - before.folders if not any(_lies_in(path, folder) for path in undone.files)
    }
    _hold(replace(undone, folders=undone.folders - made), before)
    generated = {photo_id for photo_id, said in before.statuses.items() if "generated" in said.values()}
    for photo_id, said in before.statuses.items():
        if photo_id not in generated:
            assert undone.statuses[photo_id] == said
    of_generated = {row["filename"] for row in before.rows["photos"] if row["id"] in generated}
    extra = {path.rpartition("/")[2].removesuffix(".webp") for path in undone.derivatives - before.derivatives}
    assert extra <= of_generated
    if is_unplugged:
        return

    undo(world, "undo", "undo of undo", cut=options["cut"])

    again = look(world)
    _hold(again, after)
    assert again.trash == after.trash


def _undo_without_disk(world: World) -> bool:
    """Undo the task while the disk of a project is not mounted; return False if no such project exists."""
    place = next((path for path in sorted((world.root / "tenant").iterdir()) if path.is_dir()), None)
    if place is None:
        return False
    away = world.root.with_name("away")
    place.rename(away)
    place.mkdir()
    undo(world, "task", "undo without a disk")
    assert list(place.iterdir()) == []
    place.rmdir()
    away.rename(place)
    return True


def _lies_in(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _hold(found: Look, wanted: Look) -> None:
    assert found.files == wanted.files
    assert found.folders == wanted.folders
    assert found.rows == wanted.rows


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
@given(spec=libraries(), options=_OPTIONS)
def test_an_undo_brings_back_what_a_task_did_and_can_be_undone(
    name: str, spec: LibrarySpec, options: dict[str, Any], make_world: Callable[..., World]
) -> None:
    _check(name, spec, make_world, options)


def _project(name: str, *photos: PhotoSpec) -> ProjectSpec:
    return ProjectSpec(name, folder=name, photos=photos)


def _photo(name: str, *, has_row: bool) -> PhotoSpec:
    return PhotoSpec(name, has_row=has_row, is_row_right=has_row)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("maintenance_global", LibrarySpec((_project("Iceland"), _project("iceland")))),
        (
            "change_commit_all",
            LibrarySpec((_project("Iceland", _photo("IMG_1", has_row=True), _photo("img_1", has_row=False)),)),
        ),
    ],
)
def test_names_that_differ_in_case_alone_come_back_beside_each_other(
    name: str, spec: LibrarySpec, make_world: Callable[..., World]
) -> None:
    _check(name, spec, make_world, {"is_forced": False, "unaccepted_files": "keep", "cut": None})


@pytest.mark.parametrize("changes", [{"manifest": "rubbish"}, {"folder": "import 0"}])
def test_what_an_undo_found_away_comes_back_by_another_undo(
    changes: dict[str, str], make_world: Callable[..., World]
) -> None:
    spec = LibrarySpec((replace(_project("Iceland", _photo("IMG_1", has_row=False)), **changes),))
    options = {"is_forced": False, "unaccepted_files": "keep", "cut": None, "is_unplugged": True}
    _check("maintenance_global", spec, make_world, options)


def test_a_folder_that_was_renamed_before_the_task_keeps_its_name(make_world: Callable[..., World]) -> None:
    gone = replace(_project("Iceland"), folder="import 0", state="gone")
    spec = LibrarySpec((gone, _project("Alps")), loose=(("Iceland", 2, ("IMG_1.jpg",)),))
    _check("maintenance_global", spec, make_world, {"is_forced": False, "unaccepted_files": "keep", "cut": None})


def test_a_thumbnail_that_a_task_made_and_made_again_is_gone_again(
    make_world: Callable[..., World], sqlite_url: str
) -> None:
    ticks = count()
    database = Database(sqlite_url, clock=lambda: NOW + timedelta(milliseconds=next(ticks)))
    world = make_world(LibrarySpec((_project("Iceland", _photo("IMG_1", has_row=True)),)), database=database)
    steps = [{"type": "generate_derivatives"}] * 2
    twice = load_definitions({"twice": {"label": "Twice", "scope": "photo_set", "steps": steps}})["twice"]
    before = look(world)
    new = new_task(twice, task_id="task", tenant_id="tenant", items=[{"photo_id": 1}], payload={"force": True})
    TasksRepository(world.database).start(new)
    run(world, "task")
    assert look(world).derivatives

    undo(world, "task", "undo")

    undone = look(world)
    assert (undone.derivatives, undone.statuses) == (set(), before.statuses)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(spec=libraries(), options=_OPTIONS)
def test_an_undo_brings_back_what_a_task_did_on_many_libraries(
    name: str, spec: LibrarySpec, options: dict[str, Any], make_world: Callable[..., World]
) -> None:
    _check(name, spec, make_world, options)
