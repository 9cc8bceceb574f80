"""A second run of each built-in definition finds nothing to do, and changes nothing."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from storage import ProjectsRepository
from storage.database.tables import photo_derivatives, photo_originals, photo_tags, photos, projects, tags
from storage.errors import UnknownProject
from storage.library.trash import move_to_trash
from task_definitions import load_definitions

DEFINITIONS = load_definitions()


@pytest.fixture
def library(studio: Any, jpeg: Any) -> dict[str, Any]:
    """Create two projects with something to do for every definition, and an archived one; return them by name."""
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    picture = {"jpg": jpeg(DateTimeOriginal="2024:05:06 07:08:09")}
    studio.photo(iceland, "fox", "jpg", "NEF", "jpg.xmp", contents=picture, keep_jpg=0, tagged=("animal",))
    studio.photo(iceland, "owl", "jpg", contents=picture, jpg_available=0, tagged=("animal", "bird"))
    studio.photo(iceland, "bear", "jpg", contents=picture, thumbnail_status="generated", preview_status="generated")
    studio.photo(iceland, "lost")
    studio.photo(norway, "fox", "jpg", contents=picture)
    ProjectsRepository(studio.database).rename(norway.id, project_name="Norway 2024")
    place = studio.folder(iceland)
    (place.path / "elk.jpg").write_bytes(picture["jpg"])
    (place.path / "film.mov").write_bytes(b"a film")
    (place.path / "gone.jpg").write_bytes(b"gone")
    move_to_trash(place, place.path / "gone.jpg", at=studio.database.clock() - timedelta(days=3))
    new = studio.root / "tenant" / "New"
    new.mkdir()
    (new / "lynx.jpg").write_bytes(picture["jpg"] + b"another")
    old = studio.project("Old", archived=True)
    studio.photo(old, "hen", "jpg", derivatives=True, tagged=("bird",))
    for path in studio.root.rglob("*.*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))
    return {"Iceland": iceland, "Norway": norway, "Old": old}


def run(studio: Any, library: dict[str, Any], name: str, task_id: str) -> None:
    """Run a task of the definition with its follow-up jobs to the end."""
    definition = DEFINITIONS[name]
    arguments: dict[str, Any] = {}
    if str(definition.scope) == "photo_set":
        with studio.database.connect() as connection:
            found = connection.execute(select(photos.c.id).order_by(photos.c.id)).scalars().all()
        arguments["items"] = [{"photo_id": photo_id} for photo_id in found]
    if name == "undo":
        arguments["payload"] = {"undo": "before"}
    if name == "image_move":
        arguments["project_id"] = library["Norway"].id
    elif str(definition.scope) == "project":
        arguments["project_id"] = library["Old" if "scavenge" in name else "Iceland"].id
    assert studio.run_task(definition, task_id=task_id, **arguments).is_final


def everything(studio: Any) -> dict[str, Any]:
    """Return paths, contents, sizes and times of all files, and all rows except jobs and the journal."""
    found: dict[str, Any] = {}
    for path in sorted(studio.root.rglob("*")):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(studio.root))] = (status.st_ino, status.st_mtime_ns, content)
    with studio.database.connect() as connection:
        for table in (projects, photos, tags, photo_tags, photo_derivatives, photo_originals):
            rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            found[f"table {table.name}"] = [dict(row) for row in rows]
    return found


@pytest.mark.parametrize(
    "name",
    [
        name if name == "maintenance_global" else pytest.param(name, marks=pytest.mark.slow_on("postgresql"))
        for name in sorted(DEFINITIONS.keys() - {"project_delete"})
    ],
)
def test_the_second_run_changes_nothing(studio: Any, library: dict[str, Any], clock: Any, name: str) -> None:
    if name == "undo":
        run(studio, library, "maintenance_global", "before")
    untouched = everything(studio)
    run(studio, library, name, "first")
    after_the_first = everything(studio)
    clock.advance(seconds=60)

    run(studio, library, name, "second")

    assert after_the_first != untouched, "the first run had nothing to do"
    after_the_second = everything(studio)
    if name == "verify_originals":
        for row in (*after_the_first["table photo_originals"], *after_the_second["table photo_originals"]):
            # It reads them again.
            del row["verified_at"], row["checked_at"]
    assert after_the_second == after_the_first


def test_a_project_is_not_deleted_twice(studio: Any, library: dict[str, Any]) -> None:
    run(studio, library, "project_delete", "first")
    after_the_first = everything(studio)

    with pytest.raises(UnknownProject, match=str(library["Iceland"].id)):
        run(studio, library, "project_delete", "second")
    assert everything(studio) == after_the_first
