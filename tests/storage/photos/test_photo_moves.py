"""Names, derivatives and tags in the rows of photos that were moved to another project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select

from storage import Database, PhotosRepository, Project
from storage.database.tables import photo_derivatives, photo_originals, photo_tags, photos, tags
from storage.photos.photo_moves import MovedPhoto, move_rows


def _moved(photo_id: int, old: str, new: str, **more: Any) -> MovedPhoto:
    return MovedPhoto(
        id=photo_id, old_name=old, name=new, thumbnail_status="generated", preview_status="missing", **more
    )


def _move(database: Database, moved: list[MovedPhoto], project: Project) -> None:
    with database.begin() as connection:
        move_rows(connection, moved, project_id=project.id, now=database.clock())


def _derivatives(database: Database) -> set[tuple[int, str, str]]:
    columns = (photo_derivatives.c.photo_id, photo_derivatives.c.kind, photo_derivatives.c.source_name)
    with database.connect() as connection:
        return {tuple(row) for row in connection.execute(select(*columns))}


def _tags(database: Database) -> set[tuple[int, int, str]]:
    statement = select(photo_tags.c.photo_id, tags.c.project_id, tags.c.name).join(
        tags, tags.c.id == photo_tags.c.tag_id
    )
    with database.connect() as connection:
        return {tuple(row) for row in connection.execute(statement)}


def test_derivatives_are_of_the_new_name_and_those_left_behind_are_forgotten(
    database: Database, make_project: Callable[..., Project], make_photos: Callable[..., list[int]]
) -> None:
    here, there = make_project(), make_project()
    hare, fox, elk = (make_photos(here, filename=name, basename=name)[0] for name in ("hare", "fox", "elk"))
    rows = [(fox, "thumbnail", "fox.jpg"), (fox, "metadata", "fox.NEF"), (fox, "preview", "another.jpg")]
    rows += [(elk, "thumbnail", "elk.jpg"), (elk, "preview", "elk.jpg"), (hare, "thumbnail", "fox.jpg")]
    with database.begin() as connection:
        connection.execute(
            insert(photo_derivatives),
            [
                {"photo_id": photo_id, "kind": kind, "source_name": name, "generated_at": database.clock()}
                for photo_id, kind, name in rows
            ],
        )

    moved = [_moved(fox, "fox", "fox_duplicate1"), _moved(elk, "elk", "elk", left_behind=("preview",))]
    _move(database, moved, there)

    assert _derivatives(database) == {
        (fox, "thumbnail", "fox_duplicate1.jpg"),
        (fox, "metadata", "fox_duplicate1.NEF"),
        (fox, "preview", "another.jpg"),
        (elk, "thumbnail", "elk.jpg"),
        (hare, "thumbnail", "fox.jpg"),
    }
    found = {photo.id: photo for photo in PhotosRepository(database).get_many([fox, elk, hare])}
    assert [(found[one].project_id, found[one].filename) for one in (fox, elk, hare)] == [
        (there.id, "fox_duplicate1"),
        (there.id, "elk"),
        (here.id, "hare"),
    ]
    assert (found[fox].thumbnail_status, found[fox].preview_status) == ("generated", "missing")


@pytest.mark.parametrize("new", ["café", "café_duplicate1"])
def test_files_that_are_spelled_differently_from_their_photo_get_the_name_that_they_have_on_disk(
    database: Database, make_project: Callable[..., Project], make_photos: Callable[..., list[int]], new: str
) -> None:
    here, there = make_project(), make_project()
    [photo_id] = make_photos(here, filename="café")
    with database.begin() as connection:
        # The names of the first file and of the photo differ in the Unicode form, and so in their length, too.
        for name in ("cafe\u0301.jpg", "CAFÉ.NEF", "café", "café_other.tif", "CAFÉ.png", "café.png"):
            connection.execute(insert(photo_originals).values(photo_id=photo_id, name=name, kind="other"))
        derivative = {"kind": "preview", "source_name": "CAFÉ.NEF", "generated_at": database.clock()}
        connection.execute(insert(photo_derivatives).values(photo_id=photo_id, **derivative))

    _move(database, [_moved(photo_id, "café", new)], there)

    with database.connect() as connection:
        found = set(connection.scalars(select(photo_originals.c.name)))
    assert found == {f"{new}.jpg", f"{new}.NEF", new, "café_other.tif", "CAFÉ.png", f"{new}.png"}
    assert _derivatives(database) == {(photo_id, "preview", f"{new}.NEF")}


def test_a_base_name_of_its_own_survives_a_new_name(
    database: Database, make_project: Callable[..., Project], make_photos: Callable[..., list[int]]
) -> None:
    here, there = make_project(), make_project()
    names = {"fox": "fox", "elk": "deer", "hare": "rabbit"}
    ids = {name: make_photos(here, filename=name, basename=base)[0] for name, base in names.items()}
    moved = [_moved(photo_id, name, f"{name}_2") for name, photo_id in ids.items()]

    _move(database, moved, there)

    with database.connect() as connection:
        found = connection.execute(select(photos.c.filename, photos.c.basename)).all()
    assert sorted(map(tuple, found)) == [("elk_2", "deer"), ("fox_2", "fox_2"), ("hare_2", "rabbit")]


def test_photos_keep_the_names_of_their_tags_and_no_others_change(
    database: Database, make_project: Callable[..., Project], make_photos: Callable[..., list[int]]
) -> None:
    here, there, elsewhere = make_project(), make_project(), make_project()
    fox, elk = make_photos(here, 2)
    [hare] = make_photos(there)
    numbers = {}
    with database.begin() as connection:
        for project, names in ((here, "ab"), (there, "bd"), (elsewhere, "ac")):
            for name in names:
                added = insert(tags).values(project_id=project.id, name=name).returning(tags.c.id)
                numbers[project.id, name] = connection.execute(added).scalar_one()
        links = [(fox, here, "a"), (fox, here, "b"), (elk, here, "a"), (hare, there, "b"), (hare, there, "d")]
        # An earlier move was interrupted after this link.
        links.append((fox, there, "b"))
        connection.execute(
            insert(photo_tags),
            [{"photo_id": photo_id, "tag_id": numbers[project.id, name]} for photo_id, project, name in links],
        )

    _move(database, [_moved(fox, "fox", "fox")], there)

    assert _tags(database) == {
        (fox, there.id, "a"),
        (fox, there.id, "b"),
        (elk, here.id, "a"),
        (hare, there.id, "b"),
        (hare, there.id, "d"),
    }
    with database.connect() as connection:
        found = connection.execute(select(tags.c.project_id, tags.c.name)).all()
    expected = {here.id: "ab", there.id: "abd", elsewhere.id: "ac"}
    assert sorted(map(tuple, found)) == sorted((one, name) for one, names in expected.items() for name in names)
    # Nothing is left to do.
    _move(database, [], here)
    assert list(PhotosRepository(database).base_names(here.id)) == [
        photo.filename for photo in PhotosRepository(database).get_many([elk])
    ]
