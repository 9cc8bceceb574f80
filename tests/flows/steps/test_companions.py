"""Files that belong to a photo by their names move with the photo, and no other files."""

from __future__ import annotations

import os

import pytest

from flows.handlers import announced_moves
from storage import TasksRepository
from tests.flows.steps.test_faults_at_every_change import run_task

LONG = "Urlaub in Knaufspesch in der Schneifel am Wochenende"
COMPANIONS = (
    "fox.MOV",
    "fox.AAE",
    "fox.WAV",
    "fox.jpg.pp3",
    "fox.jpg.dop",
    "fox.xmp",
    "fox_01.jpg.xmp",
    "fox.jpg.supplemental-metadata.json",
    "NKSC_PARAM/fox.NEF.nksc",
    "CaptureOne/Settings153/fox.NEF.cos",
)
STRANGERS = ("fox5.MOV", "fox_5.xmp", "fo.MOV", "fox.jpg(1).json", "NKSC_PARAM/fox5.NEF.nksc", "notes.txt")


def write(folder, *paths: str) -> None:
    for path in paths:
        (folder.path / path).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / path).write_bytes(path.encode())


def contents(folder) -> dict[str, bytes]:
    files = (path for path in folder.path.rglob("*") if path.is_file())
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in files if "/." not in str(path)}


@pytest.fixture
def fox(studio):
    """A project with a photo, its companions, and files with similar names."""
    project = studio.project("Iceland")
    photo_id = studio.photo(project, "fox", "jpg", "NEF")
    write(studio.folder(project), *COMPANIONS, *STRANGERS)
    return project, photo_id


def move(studio, destination, *photo_ids):
    items = [{"photo_id": photo_id} for photo_id in photo_ids]
    job = studio.run("image_move_files", scope="photo_set", project_id=destination.id, items=items)
    assert job.status == "completed", job.error_message


def test_a_move_takes_all_of_them_along(studio, fox):
    project, photo_id = fox
    norway = studio.project("Norway")
    move(studio, norway, photo_id)
    assert contents(studio.folder(project)).keys() == set(STRANGERS)
    expected = {name: name.encode() for name in COMPANIONS}
    expected |= {f"fox.{extension}": f"Iceland/fox.{extension}".encode() for extension in ("jpg", "NEF")}
    assert contents(studio.folder(norway)) == expected


def test_a_name_that_is_taken_is_changed_in_all_of_them(studio, fox):
    _, photo_id = fox
    norway = studio.project("Norway")
    write(studio.folder(norway), "fox.MOV", "fox_duplicate1_01.jpg.xmp")
    move(studio, norway, photo_id)
    expected = {name.replace("fox", "fox_duplicate1", 1) for name in (*COMPANIONS, "fox.jpg", "fox.NEF")}
    if "fox_duplicate1.jpg" not in contents(studio.folder(norway)):
        expected = {name.replace("fox_duplicate1", "fox_duplicate2", 1) for name in expected}
    assert contents(studio.folder(norway)).keys() == expected | {"fox.MOV", "fox_duplicate1_01.jpg.xmp"}
    assert contents(studio.folder(norway))["fox.MOV"] == b"fox.MOV"


# The second limit is that of folders that eCryptfs encrypts, as a NAS does.
@pytest.mark.parametrize(
    ("companion", "limit"), [(".sync-conflict-20230101-120000-ABCDEFG.xmp", 255), ("_01.jpg.xmp", 143)]
)
def test_a_long_name_is_cut_so_that_all_of_them_fit_with_a_number(studio, companion, limit, monkeypatch):
    monkeypatch.setattr(os, "pathconf", lambda *_: limit)
    name = "ö" * ((limit - len(companion)) // 2)
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, name, "jpg")
    write(studio.folder(iceland), f"{name}{companion}")
    studio.photo(norway, name, "jpg")
    move(studio, norway, photo_id)
    new = studio.get_photo(photo_id).filename
    assert new.endswith("ö_duplicate1")
    assert len(f"{new}{companion}".encode()) <= limit
    assert contents(studio.folder(norway))[f"{new}{companion}"] == f"{name}{companion}".encode()


def test_a_companion_never_becomes_that_of_a_photo_at_the_destination(studio, fox):
    _, photo_id = fox
    norway = studio.project("Norway")
    studio.photo(norway, "fox_01", "jpg")
    move(studio, norway, photo_id)
    names = contents(studio.folder(norway)).keys()
    assert "fox_01.jpg.xmp" not in names
    assert {"fox_01.jpg", "fox_duplicate1.jpg", "fox_duplicate1_01.jpg.xmp"} < names


@pytest.mark.parametrize(
    ("present", "companion", "arriving"),
    [
        ("fox", "fox.MP", "fox.MP"),
        ("fox", "fox.MOV.xmp", "fox.MOV"),
        ("fox", "fox_01.jpg.xmp", "fox_01.jpg"),
        ("fox", "fox_01.jpg.xmp", "fox_01"),
        (None, "fox.MOV.xmp", "fox"),
    ],
)
def test_a_photo_that_arrives_never_takes_a_companion_that_is_there(studio, present, companion, arriving):
    norway = studio.project("Norway")
    photo_id = studio.photo(studio.project("Iceland"), arriving, "jpg")
    if present is not None:
        studio.photo(norway, present, "jpg")
    write(studio.folder(norway), companion)
    move(studio, norway, photo_id)
    assert studio.get_photo(photo_id).filename == f"{arriving}_duplicate1"
    assert contents(studio.folder(norway))[companion] == companion.encode()


def test_a_photo_never_takes_a_companion_that_arrives_with_it(studio, fox):
    project, photo_id = fox
    other_id = studio.photo(project, "fox_duplicate1_01", "jpg")
    norway = studio.project("Norway")
    studio.photo(norway, "fox", "jpg")
    move(studio, norway, photo_id, other_id)
    names = [studio.get_photo(one).filename for one in (photo_id, other_id)]
    assert names == ["fox_duplicate1", "fox_duplicate1_01_duplicate1"]
    assert contents(studio.folder(norway))["fox_duplicate1_01.jpg.xmp"] == b"fox_01.jpg.xmp"


@pytest.mark.parametrize(
    ("present", "companion"), [("fox_01", "fox_01.jpg.xmp"), ("foxy", "foxy.jpg.xmp"), ("fox.MOV", "fox.MOV.xmp")]
)
def test_a_companion_of_another_photo_does_not_change_the_name_of_a_photo_that_arrives(studio, present, companion):
    norway = studio.project("Norway")
    photo_id = studio.photo(studio.project("Iceland"), "fox", "jpg")
    studio.photo(norway, present, "jpg")
    write(studio.folder(norway), companion)
    move(studio, norway, photo_id)
    assert studio.get_photo(photo_id).filename == "fox"


@pytest.mark.parametrize("with_row", [True, False])
def test_a_numbered_sidecar_stays_with_the_photo_that_has_that_name(studio, fox, with_row):
    project, photo_id = fox
    if with_row:
        studio.photo(project, "fox_01")
    else:
        write(studio.folder(project), "fox_01.jpg")
    norway = studio.project("Norway")
    move(studio, norway, photo_id)
    assert "fox_01.jpg.xmp" in contents(studio.folder(project))
    assert "fox.xmp" in contents(studio.folder(norway))


def test_a_cut_name_goes_with_the_only_photo_that_it_fits_and_else_with_none(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    one, two = studio.photo(iceland, LONG, "jpg"), studio.photo(iceland, f"{LONG} 2", "jpg")
    write(studio.folder(iceland), LONG[:46] + ".json")
    move(studio, norway, one)
    assert contents(studio.folder(norway)).keys() == {f"{LONG}.jpg"}
    move(studio, norway, two)
    assert contents(studio.folder(norway)).keys() == {f"{LONG}.jpg", f"{LONG} 2.jpg", LONG[:46] + ".json"}


@pytest.fixture
def busy_editor(studio, monkeypatch):
    """While photos move or get another name, another program writes sidecars beside the names that they had."""
    move_file = announced_moves.move_without_overwrite

    def write_meanwhile(source, target, **options):
        move_file(source, target, **options)
        if source.name == "fox.jpg":
            names = ("fox.jpg.xmp", "NKSC_PARAM/fox.jpg.nksc", "owl.jpg.xmp", "owl_01.jpg.xmp")
            write(studio.runtime.library.project("tenant", source.parent.name), *names)

    monkeypatch.setattr(announced_moves, "move_without_overwrite", write_meanwhile)


def test_companions_that_are_written_during_a_move_follow_and_return(studio, busy_editor):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    items = [{"photo_id": studio.photo(iceland, name, "jpg")} for name in ("fox", "owl")]
    studio.photo(norway, "fox", "jpg")
    studio.photo(norway, "owl_01")
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=items)
    # The last one would become the sidecar of another photo.
    assert contents(studio.folder(iceland)) == {"owl_01.jpg.xmp": b"owl_01.jpg.xmp"}
    there = contents(studio.folder(norway))
    assert there["fox_duplicate1.jpg.xmp"] == b"fox.jpg.xmp"
    assert there["NKSC_PARAM/fox_duplicate1.jpg.nksc"] == b"NKSC_PARAM/fox.jpg.nksc"
    assert there["owl.jpg.xmp"] == b"owl.jpg.xmp"
    studio.run("undo", scope="global", payload={"undo": "task"})
    assert contents(studio.folder(norway)).keys() == {"fox.jpg"}
    assert contents(studio.folder(iceland)).keys() == {
        *("fox.jpg", "fox.jpg.xmp", "NKSC_PARAM/fox.jpg.nksc", "owl.jpg", "owl.jpg.xmp", "owl_01.jpg.xmp")
    }


def test_companions_that_are_written_during_a_renaming_follow_and_return(studio, busy_editor, jpeg):
    norway, iceland = studio.project("Norway"), studio.project("Iceland")
    for project in (norway, iceland):
        studio.photo(project, "fox", "jpg", contents={"jpg": jpeg(shade=60 * project.id)})
    run_task(studio, "duplicate_resolution", scope="global")
    assert {"fox_duplicate1.jpg.xmp", "NKSC_PARAM/fox_duplicate1.jpg.nksc", "owl.jpg.xmp"} < set(
        contents(studio.folder(iceland))
    )
    studio.run("undo", scope="global", payload={"undo": "task"})
    assert {"fox.jpg", "fox.jpg.xmp", "NKSC_PARAM/fox.jpg.nksc"} < set(contents(studio.folder(iceland)))


def test_the_trash_gets_them_with_the_last_image(studio, fox):
    project, photo_id = fox
    folder = studio.folder(project)
    _keep(studio, photo_id, jpg=0)
    studio.run("file_removal", scope="project", project_id=project.id)
    assert contents(folder).keys() == {*COMPANIONS, *STRANGERS, "fox.NEF"}
    _keep(studio, photo_id, jpg=0, raw=0)
    studio.run("file_removal", scope="project", project_id=project.id)
    assert contents(folder).keys() == set(STRANGERS)
    assert {source.partition("/Iceland/")[2] for action, source, _ in studio.journal() if action == "trashed"} == {
        *COMPANIONS,
        "fox.jpg",
        "fox.NEF",
    }


def test_an_undo_brings_all_of_them_back(studio, fox, make_task):
    project, photo_id = fox
    before = contents(studio.folder(project))
    norway = studio.project("Norway")
    step = {"type": "image_move_files", "unit": "items"}
    task = make_task(step, photo_ids=[photo_id], project_id=norway.id, scope="photo_set", tenant_id="tenant")
    [job] = TasksRepository(studio.database).list_jobs(task.id)
    from flows.testing import run_queued_job

    assert run_queued_job(studio.runtime, job.id).status == "completed"
    (studio.folder(project).path / "NKSC_PARAM" / "fox5.NEF.nksc").unlink()
    (studio.folder(project).path / "NKSC_PARAM").rmdir()
    undone = studio.run("undo", scope="global", payload={"undo": task.id})
    assert undone.status == "completed", undone.error_message
    del before["NKSC_PARAM/fox5.NEF.nksc"]
    assert contents(studio.folder(project)) == before
    assert contents(studio.folder(norway)) == {}


def test_companions_are_no_unaccepted_files(studio, fox):
    project, _ = fox
    job = studio.run("folder_check", scope="project", project_id=project.id)
    kept = {example.partition(":")[0] for example in job.result["examples"]["kept"]}
    assert kept == {"fox5.MOV", "fo.MOV", "fox.jpg(1).json", "notes.txt"}
    assert job.result["counts"]["kept"] == 4


def _keep(studio, photo_id, *, jpg=1, raw=1):
    from storage import PhotosRepository

    PhotosRepository(studio.database).update_many([{"id": photo_id, "keep_jpg": jpg, "keep_raw": raw}])
