"""`photojobs library verify` and other commands report corrupt originals until they are restored or accepted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage import Database, PhotosRepository, ProjectsRepository
from storage.database.tables import photo_originals
from storage.library.content_hash import hash_contents
from storage.photos.originals import Original, OriginalsRepository

Command = Callable[..., Any]


@pytest.fixture
def fox(place: Any, place_database: Database) -> Path:
    """Create an original that has just been verified, and one that was never verified; return the first."""
    folder = place.library / "user_0" / "Iceland"
    folder.mkdir(parents=True)
    project = ProjectsRepository(place_database).create(project_name="Iceland", project_folder="Iceland")
    ids = PhotosRepository(place_database).create_many(
        [{"project_id": project.id, "filename": name, "jpg_available": 1} for name in ("fox", "owl")]
    )
    path: Path = folder / "fox.jpg"
    path.write_bytes(b"right")
    (folder / "owl.jpg").write_bytes(b"an owl")
    with place_database.begin() as connection:
        for photo_id, name in zip(ids, ("fox.jpg", "owl.jpg"), strict=True):
            status = (folder / name).stat()
            seen = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
            original = Original(photo_id=photo_id, name=name, kind="jpg", **seen)
            OriginalsRepository(connection).save_many([original])
        now = place_database.clock()
        read = {"content_hash": hash_contents(path), "hashed_at": now, "verified_at": now, "checked_at": now}
        connection.execute(update(photo_originals).where(photo_originals.c.name == "fox.jpg").values(read))
    return path


def make_corrupt(path: Path, database: Database) -> None:
    before = path.stat()
    path.write_bytes(b"wrong")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with database.begin() as connection:
        seen = update(photo_originals).where(photo_originals.c.name == path.name)
        connection.execute(seen.values(ctime_ns=path.stat().st_ctime_ns))


def test_coverage_is_shown_by_days(command: Command, fox: Path) -> None:
    shown, ran = command("library", "verify"), command("library", "verify", "--json")
    assert (shown.code, ran.code) == (0, 0)
    assert shown.out.splitlines()[1].split() == ["within", "7", "days", "1", "5", "B", "45.5%"]
    coverage = ran.document["coverage"]
    assert {days: amount["originals"] for days, amount in coverage["within"].items()} == {
        "7": 1,
        "30": 1,
        "90": 1,
        "365": 1,
    }
    assert coverage["never"] == {"originals": 1, "size_bytes": 6}
    assert coverage["all"] == {"originals": 2, "size_bytes": 11}


def test_what_is_corrupt_is_told_of_until_it_is_accepted(command: Command, fox: Path, place_database: Database) -> None:
    make_corrupt(fox, place_database)
    ran = command("run", "verify_originals")
    assert ran.code == 1
    assert "Iceland/fox.jpg is corrupt" in ran.out + ran.err

    shown = command("library", "verify")
    assert shown.code == 1
    assert "Iceland/fox.jpg" in shown.out
    assert "1 corrupt" in command("status").out
    assert command("status", "--json").document["corrupt_originals"] == 1
    [finding] = [one for one in command("doctor", "--json").document["findings"] if one["area"] == "originals"]
    assert finding["standing"] == "problem"
    assert "Iceland/fox.jpg" in finding["says"]

    assert command("library", "verify", "--accept", "Iceland/owl.jpg").code == 2
    accepted = command("library", "verify", "--accept", "Iceland/fox.jpg", "--json")
    assert (accepted.code, accepted.document["corrupt"]) == (0, [])
    assert fox.read_bytes() == b"wrong"
    assert command("run", "verify_originals").code == 0


def test_of_two_tenants_only_the_named_one_has_its_original_accepted(
    command: Command, fox: Path, place_database: Database
) -> None:
    folder = fox.parents[2] / "anna" / "Iceland"
    folder.mkdir(parents=True)
    (folder / "fox.jpg").write_bytes(b"hers")
    project = ProjectsRepository(place_database).create(
        project_name="Iceland", project_folder="Iceland", tenant_id="anna"
    )
    [photo_id] = PhotosRepository(place_database).create_many([{"project_id": project.id, "filename": "fox"}])
    make_corrupt(fox, place_database)
    with place_database.begin() as connection:
        status = (folder / "fox.jpg").stat()
        seen = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
        OriginalsRepository(connection).save_many([Original(photo_id=photo_id, name="fox.jpg", kind="jpg", **seen)])
        both = update(photo_originals).where(photo_originals.c.name == "fox.jpg")
        connection.execute(both.values(corrupt_since=place_database.clock(), content_hash="0" * 32))

    unnamed = command("library", "verify", "--accept", "Iceland/fox.jpg")

    assert unnamed.code == 2
    assert unnamed.complaints[0].endswith("Name one of them with --tenant: anna, user_0.")
    assert command("library", "verify", "--accept", "Iceland/fox.jpg", "--tenant", "user_0").code == 0
    [left] = command("library", "verify", "--json").document["corrupt"]
    assert left["tenant_id"] == "anna"
    assert "anna" in command("library", "verify").out
