"""The demo's library has drawn photographs with real metadata and the promised faults; no other folder is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pyvips

from deployments.demo.faults import BROKEN
from deployments.demo.folder import MARKER, DemoFolderRefused, DemoState, claim_folder
from deployments.demo.library import DemoLibrary, make_library
from deployments.demo.projects import ICELAND, PROJECTS, Shot
from deployments.demo.scenes import draw_shot
from deployments.demo.snapshot import take_snapshot
from storage import Database, PhotosRepository, ProjectsRepository
from storage.library.paths import Library
from storage.library.trash import list_trash


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoLibrary, Path]:
    folder = tmp_path_factory.mktemp("demo")
    database = Database(folder / "photojobs.db")
    database.migrate()
    made = make_library(folder / "library", database, photos=40, large_photos=0)
    database.close()
    return made, folder / "photojobs.db"


@pytest.fixture
def made(_made: tuple[DemoLibrary, Path]) -> DemoLibrary:
    return _made[0]


@pytest.fixture
def made_database(_made: tuple[DemoLibrary, Path]) -> Database:
    return Database(_made[1])


def test_each_orientation_is_stored_so_that_it_turns_upright_to_the_same_picture(tmp_path: Path) -> None:
    upright: dict[tuple[int, int], pyvips.Image] = {}
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        draw_shot(Shot(path=path, scene_seed=5, number=3, orientation=orientation, make="Canon", model="EOS R6"))
        stored = pyvips.Image.new_from_file(str(path))
        assert (stored.width, stored.height) == (320, 240)
        assert stored.get("orientation") == orientation
        turned = stored.autorot()
        reference = upright.setdefault((turned.width, turned.height), turned)
        assert (turned.cast("float") - reference).abs().avg() < 4


def test_photos_carry_what_a_camera_writes(made: DemoLibrary) -> None:
    path = made.root / "anna" / ICELAND.folder / f"{ICELAND.photo_name(0)}.jpg"

    image = pyvips.Image.new_from_file(str(path))

    assert image.get("exif-ifd0-Make").startswith("Canon ")
    assert image.get("exif-ifd0-Model").startswith("Canon EOS R6")
    assert image.get("exif-ifd2-DateTimeOriginal").startswith("2023:06:03 08:12:00")


def test_every_good_photo_has_a_row_and_every_planted_fault_is_there(
    made: DemoLibrary, made_database: Database
) -> None:
    names: dict[str, set[str]] = {}
    others: list[Path] = []
    for project in PROJECTS:
        folder = made.root / project.tenant_id / project.folder
        assert folder.is_dir() == project.has_folder
        on_disk = {path.stem for path in folder.glob("*") if path.suffix in (".jpg", ".png")}
        rows = PhotosRepository(made_database).list_by_project(made.project_ids[project.name])
        in_sql = {photo.filename for photo in rows}
        names[project.name] = on_disk
        others += [path for path in folder.glob("[!.]*") if path.is_file() and path.suffix not in (".jpg", ".png")]
        missing, unknown = in_sql - on_disk, on_disk - in_sql
        assert len(missing) == {"A year in the garden": 5, "Lost drive": 8}.get(project.name, 0)
        assert len(unknown) == {"Iceland 2023": 12, "Studio": 3}.get(project.name, 0)
    assert len(names["Iceland 2023"] & names["Lofoten in winter"]) == 5
    assert set(BROKEN) <= names["Studio"]
    assert made.faults["files that are not photos (to be kept)"] == len(others)
    assert {project.tenant_id for project in ProjectsRepository(made_database).list()} == {"anna", "ben"}
    assert len(list(list_trash(Library(made.root).project("anna", ICELAND.folder)))) == 5


def test_the_same_library_is_made_twice_and_a_folder_that_is_there_is_left_alone(
    made: DemoLibrary, sqlite_database: Database, tmp_path: Path
) -> None:
    again = make_library(tmp_path / "again", sqlite_database, photos=40, large_photos=0)

    for path in sorted(made.root.rglob("*.jpg")):
        if ".trash" not in path.parts:
            assert path.read_bytes() == (again.root / path.relative_to(made.root)).read_bytes()
    with pytest.raises(FileExistsError):
        make_library(tmp_path / "again", sqlite_database, photos=40, large_photos=0)


def test_a_folder_that_the_demo_did_not_make_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "wedding.jpg").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "photos")

    for name in ("photos", "link", "photos/wedding.jpg", "nowhere/at/all"):
        with pytest.raises(DemoFolderRefused):
            claim_folder(tmp_path / name)

    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["wedding.jpg"]


def test_a_demo_that_was_interrupted_begins_again_and_one_that_was_made_stays(tmp_path: Path) -> None:
    folder = claim_folder(tmp_path / "demo")
    (folder.library_root / "anna").mkdir(parents=True)
    folder.database_path.write_bytes(b"half a database")
    assert folder.state is DemoState.MAKING

    assert sorted(path.name for path in claim_folder(tmp_path / "demo").path.iterdir()) == [MARKER]

    folder.library_root.mkdir()
    folder.enter(DemoState.MADE)
    assert claim_folder(tmp_path / "demo").state is DemoState.MADE
    assert folder.library_root.is_dir()
    marker = json.loads((folder.path / MARKER).read_text())
    assert marker["made_by"] == "photojobs demo"

    (folder.path / MARKER).write_text(json.dumps(marker | {"state": "of a newer version"}))
    with pytest.raises(DemoFolderRefused, match=f"{MARKER}.*of a newer version"):
        claim_folder(tmp_path / "demo")
    assert folder.library_root.is_dir()


def test_a_snapshot_tells_each_file_and_row_that_is_no_longer_the_same(
    sqlite_database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "library"
    root.mkdir()
    for name in ("kept", "changed", "gone"):
        (root / name).write_text(name)
    project = ProjectsRepository(sqlite_database).create(project_name="Iceland", project_folder="Iceland")
    before = take_snapshot(root, sqlite_database)
    assert before.differences(take_snapshot(root, sqlite_database)) == []

    (root / "changed").write_text("other")
    (root / "gone").rename(root / "new")
    ProjectsRepository(sqlite_database).archive(project.id)

    assert before.differences(take_snapshot(root, sqlite_database)) == [
        "changed: changed",
        "deleted: gone",
        "new: new",
        f"changed: projects {project.id}",
    ]
