"""A row to which another program refers without `ON DELETE CASCADE` is kept with its files; all other rows go."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from sqlalchemy import text

from flows.planning.plan import make_plan
from flows.starting.new_task import new_task
from storage import ProjectsRepository
from task_definitions import load_definitions

#: The tables of other programs, by the name of the photo or tag whose row the database does not remove because of them.
_TABLES = {
    "crow": "CREATE TABLE public_links (photo_id bigint REFERENCES photos (id))",
    # The database removes the row of `albums` together with the photo, but `visits` keeps the row of `albums`.
    "deer": "CREATE TABLE albums (album_id bigint PRIMARY KEY, photo_id bigint REFERENCES photos ON DELETE CASCADE);"
    "CREATE TABLE visits (album bigint REFERENCES albums ON DELETE RESTRICT)",
    # The database would have to set a column to NULL that may not be NULL.
    "elk": "CREATE TABLE covers (photo_id bigint NOT NULL REFERENCES photos ON DELETE SET NULL)",
    "hare": "ALTER TABLE photos ADD COLUMN stack_of bigint REFERENCES photos (id)",
    "sea": "CREATE TABLE tag_colors (tag_id bigint REFERENCES tags (id))",
}
_ROWS = (
    "INSERT INTO public_links SELECT id FROM photos WHERE filename = 'crow'",
    "INSERT INTO albums SELECT 7, id FROM photos WHERE filename = 'deer'",
    "INSERT INTO albums SELECT 8, id FROM photos WHERE filename = 'fox'",
    "INSERT INTO visits SELECT album_id FROM albums WHERE album_id = 7",
    "INSERT INTO covers SELECT id FROM photos WHERE filename = 'elk'",
    "UPDATE photos SET stack_of = (SELECT id FROM photos WHERE filename = 'hare') WHERE filename = 'lynx'",
    "INSERT INTO tag_colors SELECT id FROM tags WHERE name = 'sea'",
)
_KEEPS = {"crow": "public_links", "deer": "visits", "elk": "covers", "hare": "photos.stack_of"}
_REASON = "rows of other programs depend on it ({}), so it is kept; remove those rows first"


@pytest.fixture
def linked(studio: Any) -> Any:
    """A studio with tables of other programs; `add_links` adds their rows."""

    def execute(*statements: str) -> None:
        with studio.database.begin() as connection:
            for statement in (part for one in statements for part in one.split(";")):
                connection.execute(text(statement))

    execute(*_TABLES.values())
    studio.add_links = lambda: execute(*_ROWS)
    return studio


def _names(studio: Any) -> list[str]:
    with studio.database.connect() as connection:
        return list(connection.execute(text("SELECT filename FROM photos ORDER BY filename")).scalars())


def test_files_of_a_photo_whose_row_must_stay_are_not_moved_to_the_trash(linked: Any) -> None:
    iceland = linked.project("Iceland")
    ids = [
        linked.photo(iceland, name, "jpg", "xmp", keep_jpg=0, keep_raw=0, derivatives=True) for name in (*_KEEPS, "fox")
    ]
    linked.photo(iceland, "lynx", "jpg")
    linked.add_links()
    items = [{"photo_id": photo_id} for photo_id in ids]
    new = new_task(load_definitions()["change_commit_all"], tenant_id="tenant", items=items)
    planned = make_plan(linked.runtime, new).steps[0]

    job = linked.run("file_removal", scope="photo_set", items=items)

    assert job.status == "failed"
    assert job.result["errors"] == {name: _REASON.format(table) for name, table in _KEEPS.items()}
    assert planned.remarks["failed"][0] == 4
    assert job.result["counts"] == {"trashed": 2, "rows removed": 1, "derivatives removed": 2, "failed": 4}
    assert _names(linked) == [*_KEEPS, "lynx"]
    kept = {f"tenant/Iceland/{name}.{end}" for name in _KEEPS for end in ("jpg", "xmp")}
    kept |= {f"tenant/Iceland/.{folder}/{name}.webp" for name in _KEEPS for folder in ("thumb", "preview")}
    gone = {"tenant/Iceland/.trash/fox.jpg", "tenant/Iceland/.trash/fox.xmp"}
    assert linked.disk().keys() == kept | gone | {"tenant/Iceland/lynx.jpg"}


def test_missing_photos_whose_rows_must_stay_are_kept_and_named(linked: Any) -> None:
    iceland = linked.project("Iceland")
    linked.write_manifest(iceland)
    for name in (*_KEEPS, "fox"):
        linked.photo(iceland, name, derivatives=True)
    linked.photo(iceland, "lynx", "jpg")
    linked.add_links()

    job = linked.run("manifest_cleaning", project_id=iceland.id)

    assert (job.status, _names(linked)) == ("completed", [*_KEEPS, "lynx"])
    assert job.result["counts"] == {"rows removed": 1, "rows kept": 4, "derivatives removed": 2}
    examples = sorted(f"{name}: {_REASON.format(table)}" for name, table in _KEEPS.items())
    assert sorted(job.result["examples"]["rows kept"]) == examples
    assert {f"tenant/Iceland/.thumb/{name}.webp" for name in _KEEPS} <= linked.disk().keys()


def test_a_project_whose_rows_must_stay_is_kept_with_its_folder(linked: Any) -> None:
    projects = ProjectsRepository(linked.database)
    linked_ones = {"Photo": "public_links", "Tag": "tag_colors"}
    for name in (*linked_ones, "Free"):
        project = linked.project(name)
        linked.photo(project, "crow" if name == "Photo" else name, "jpg", tagged=("sea",) if name == "Tag" else ())
        projects.archive(project.id)
    linked.add_links()
    before = linked.everything()

    for name, table in linked_ones.items():
        project = projects.get_by_folder(name, tenant_id="tenant")
        for step in ("project_delete_files", "project_cleanup_db"):
            job = linked.run(step, project_id=project.id)
            assert (job.status, job.result["errors"]) == ("failed", {name: _REASON.format(table)}), step
    assert linked.everything() == before

    project = projects.get_by_folder("Free", tenant_id="tenant")
    for step in ("project_delete_files", "project_cleanup_db"):
        assert linked.run(step, project_id=project.id).status == "completed"
    assert projects.get_by_id(project.id) is None


def test_a_missing_project_whose_rows_must_stay_is_kept_whole(linked: Any, clock: Any) -> None:
    for name, photo in (("Linked", "crow"), ("Free", "fox")):
        project = linked.project(name)
        for photo_name in (photo, f"{photo}2"):
            linked.photo(project, photo_name, "jpg")
    linked.project("Here")
    linked.add_links()
    for name in ("Linked", "Free"):
        shutil.rmtree(linked.root / "tenant" / name)
    linked.run("orphaned_project_cleanup", scope="global")
    clock.advance(seconds=8 * 24 * 3600)

    job = linked.run("orphaned_project_cleanup", scope="global")

    assert job.status == "completed"
    assert job.result["examples"]["kept"] == [f"Linked: {_REASON.format('public_links')}"]
    assert _names(linked) == ["crow", "crow2"]
