"""A photo whose file a user moved or renamed by hand keeps its row: id, tags by name, flags, visibility, metadata."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from flows.handlers.step_context import StepContext
from flows.starting.new_task import new_task
from flows.steps.following import arrivals
from flows.steps.following.arrivals import Arrivals
from flows.steps.targets.whereabouts import RenamedFolders
from storage import ProjectsRepository, TasksRepository
from storage.database.tables import photo_originals, photos
from storage.library.content_hash import hash_contents
from storage.library.errors import FolderUnreadable
from storage.photos.originals import Original, OriginalsRepository
from tests.flows.undoing.looking import DEFINITIONS, run

#: The values that a user set for a photo.
CURATED: dict[str, Any] = {
    "visibility": "public",
    "keep_raw": 0,
    "meta_json": {"rating": 5, "width": 40},
    "date_time_original": "2024-05-06T07:08:09",
}


def remember(studio: Any, project: Any, photo_id: int, *names: str) -> None:
    """Store the content hashes of files, as after their thumbnails were made."""
    folder = studio.folder(project).path
    originals = []
    for name in names:
        status = (folder / name).lstat()
        kind = str(studio.runtime.library.accepted_extensions.describe(name).kind)
        originals.append(
            Original(
                photo_id=photo_id,
                name=name,
                kind=kind,
                size_bytes=status.st_size,
                mtime_ns=status.st_mtime_ns,
                ctime_ns=status.st_ctime_ns,
                content_hash=hash_contents(folder / name),
            )
        )
    OriginalsRepository(studio.database).save_many(originals)


@dataclass
class Album:
    """A studio with two projects with manifests, and a photo with values that a user set."""

    studio: Any
    one: Any
    two: Any
    photo_id: int

    @property
    def source(self) -> Any:
        return self.studio.folder(self.one).path

    @property
    def target(self) -> Any:
        return self.studio.folder(self.two).path

    def add(self, project: Any, name: str, *files: str, **columns: Any) -> int:
        """Create a photo whose content hash is stored; return its id."""
        files = files or ("jpg",)
        photo_id: int = self.studio.photo(project, name, *files, derivatives=True, **columns)
        remember(self.studio, project, photo_id, *(f"{name}.{extension}" for extension in files))
        return photo_id

    def row(self, photo_id: int | None = None) -> dict[str, Any]:
        """Return the place of a photo, and the values of its row."""
        photo = self.studio.get_photo(photo_id or self.photo_id)
        assert photo is not None
        project = ProjectsRepository(self.studio.database).get(photo.project_id)
        return {
            "place": f"{project.project_name}/{photo.filename}",
            "tags": [name for _, name in self.studio.tags_of(photo.id)],
            "files": (photo.jpg_available, photo.raw_available, photo.other_available),
            "statuses": (photo.thumbnail_status, photo.preview_status),
            **{name: getattr(photo, name) for name in CURATED},
        }

    def places(self) -> dict[str, int]:
        """Return the ids of all photos by their places."""
        with self.studio.database.connect() as connection:
            found = connection.execute(select(photos.c.project_id, photos.c.filename, photos.c.id)).all()
        names = {project.id: project.project_name for project in ProjectsRepository(self.studio.database).list()}
        assert len({row[:2] for row in found}) == len(found)
        return {f"{names[row.project_id]}/{row.filename}": row.id for row in found}

    def check(self, step: str = "folder_check", **arguments: Any) -> dict[str, Any]:
        """Run a step over all projects, and return its report."""
        job = self.studio.run(step, **{"scope": "global", **arguments})
        assert job.status == "completed", job.error_message
        return dict(job.result)


def make_album(studio: Any) -> Album:
    one, two = studio.project("one"), studio.project("two")
    album = Album(studio, one, two, 0)
    album.photo_id = album.add(one, "P", tagged=("sea", "blue"), **CURATED)
    studio.photo(two, "other", "jpg", tagged=("sea",))
    studio.write_manifest(one, two)
    return album


@pytest.fixture
def album(studio: Any) -> Album:
    return make_album(studio)


def test_a_photo_that_was_dragged_to_another_project_keeps_its_row(album: Album) -> None:
    before = album.row()
    (album.source / "P.jpg").rename(album.target / "P.jpg")

    report = album.check()

    assert album.row() == {**before, "place": "two/P"}
    assert album.places() == {"two/P": album.photo_id, "two/other": album.places()["two/other"]}
    assert {project_id for project_id, _ in album.studio.tags_of(album.photo_id)} == {album.two.id}
    assert (report["counts"]["followed"], report["examples"]["followed"]) == (1, ["one/P → two/P"])
    thumb, preview = (album.target / folder / "P.webp" for folder in (".thumb", ".preview"))
    assert (thumb.read_bytes(), preview.read_bytes()) == (b"thumb of P", b"preview of P")
    assert not (album.source / ".thumb" / "P.webp").exists()
    assert album.studio.journal()[-1] == ("followed", "tenant/one/P.jpg", "tenant/two/P.jpg")
    assert "followed" not in album.check().get("counts", {})


@pytest.mark.parametrize("name", ["Sunset.jpg", "p (1).JPG", "Ünï.jpeg"])
def test_a_photo_that_was_renamed_keeps_its_row(album: Album, name: str) -> None:
    before = album.row()
    (album.source / "P.jpg").rename(album.source / name)

    report = album.check()

    new = name.rpartition(".")[0]
    assert album.row() == {**before, "place": f"one/{new}"}
    assert (album.source / ".thumb" / f"{new}.webp").read_bytes() == b"thumb of P"
    assert len(album.places()) == 2
    assert report["counts"]["followed"] == 1
    known = OriginalsRepository(album.studio.database).get_many([album.photo_id])[album.photo_id]
    assert {name: row.content_hash is not None for name, row in known.items()} == {name: True}


def test_a_case_change_of_a_name_and_of_a_folder_keeps_rows(album: Album) -> None:
    before = album.row()
    (album.source / "P.jpg").rename(album.source / "p.JPG")
    album.source.rename(album.source.with_name("ONE"))

    album.check("folder_discovery")
    album.check("manifest_check")
    album.check()

    assert album.row() == {**before, "place": "ONE/P"}
    assert len(album.places()) == 2


@pytest.mark.parametrize("new_name", ["ONE", "one 2024"])
@pytest.mark.parametrize("taken_by", [{}, {"new.jpg": b"new"}, {"P.jpg": b"of the same number"}])
def test_a_folder_whose_old_name_is_taken_again_at_once_keeps_its_project(
    album: Album, new_name: str, taken_by: dict[str, bytes]
) -> None:
    before = album.row()
    album.source.rename(album.source.with_name(new_name))
    again = album.source
    again.mkdir()
    for name, content in taken_by.items():
        (again / name).write_bytes(content)

    report = album.check("folder_discovery")
    album.check("folder_discovery")

    moved = ProjectsRepository(album.studio.database).get(album.one.id)
    assert moved.project_folder == new_name
    assert album.row() == {**before, "place": f"{new_name}/P"}
    assert report["examples"]["renames followed"] == [f"one → {new_name}"]
    new = ProjectsRepository(album.studio.database).get_by_folder("one", tenant_id="tenant")
    assert new is not None
    assert new.id not in {album.one.id, album.two.id}
    assert album.places().keys() == {f"{new_name}/P", "two/other"} | {f"one/{name[:-4]}" for name in taken_by}


@pytest.mark.parametrize("runtime", [{"merge_folders": False}, {"merge_folders": True}], indirect=True)
def test_a_copy_beside_the_mount_point_of_a_disk_that_is_away_is_a_copy(album: Album, tmp_path: Any) -> None:
    before = album.row()
    shutil.copytree(album.source, album.source.with_name("copy"))
    album.source.rename(tmp_path / "away")
    album.source.mkdir()

    assert album.studio.run("folder_discovery", scope="global").status == "failed"
    assert list(album.source.iterdir()) == []

    album.source.rmdir()
    (tmp_path / "away").rename(album.source)
    album.check("folder_discovery")
    assert album.row() == before
    assert album.places().keys() == {"one/P", "copy/P", "two/other"}


def make_case_blind(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Simulate a file system that ignores the case of names, as on macOS."""
    list_folder = os.listdir

    def real(path: Any) -> Any:
        if not isinstance(path, str | Path) or not Path(path).is_relative_to(root):
            return path
        place = root
        for part in Path(path).relative_to(root).parts:
            names = list_folder(place) if os.access(place, os.X_OK) else []
            place /= next((name for name in names if name.casefold() == part.casefold()), part)
        return place if isinstance(path, Path) else str(place)

    def blind(function: Any) -> Any:
        return lambda path, *arguments, **options: function(real(path), *arguments, **options)

    for module, name in ((os, "stat"), (os, "lstat"), (os, "open"), (os, "scandir"), (os, "listdir"), (io, "open")):
        patch.setattr(module, name, blind(getattr(module, name)))


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_case_change_of_a_folder_is_a_rename_where_case_makes_no_difference(
    album: Album, monkeypatch: pytest.MonkeyPatch, has_manifest: bool
) -> None:
    before = album.row()
    if not has_manifest:
        (album.source / ".project.yaml").unlink()
    album.source.rename(album.source.with_name("ONE"))
    with monkeypatch.context() as patch:
        make_case_blind(patch, album.studio.root)
        assert album.source.exists()
        report = album.check("folder_discovery")
    assert report["examples"]["renames followed"] == ["one → ONE"]
    assert album.row() == {**before, "place": "ONE/P"}
    assert len(ProjectsRepository(album.studio.database).list()) == 2


def test_a_photo_that_was_missing_for_a_while_keeps_its_flags(album: Album, tmp_path: Any) -> None:
    before = album.row()
    (album.source / "P.jpg").rename(tmp_path / "P.jpg")
    album.check("manifest_check")
    assert album.row()["files"] == (0, 0, 0)
    (tmp_path / "P.jpg").rename(album.target / "P.jpg")

    album.check()

    assert album.row() == {**before, "place": "two/P"}


def test_raw_and_jpeg_that_were_dragged_together_keep_their_row(album: Album) -> None:
    pair = album.add(album.one, "R", "jpg", "NEF", keep_raw=0, visibility="public", tagged=("sea",))
    before = album.row(pair)
    for name in ("R.jpg", "R.NEF"):
        (album.source / name).rename(album.target / name)

    report = album.check()

    assert album.row(pair) == {**before, "place": "two/R"}
    assert "files left behind" not in report["counts"]


def test_files_that_the_user_left_behind_stay_and_are_reported(album: Album) -> None:
    pair = album.add(album.one, "R", "jpg", "NEF")
    (album.source / "R.jpg.xmp").write_bytes(b"edits")
    (album.source / "R.jpg").rename(album.target / "R.jpg")

    report = album.check()

    assert album.row(pair)["place"] == "two/R"
    assert album.row(pair)["files"] == (1, 0, 0)
    assert [text.partition(":")[0] for text in report["examples"]["files left behind"]] == [
        "one/R.NEF",
        "one/R.jpg.xmp",
    ]
    assert (album.source / "R.NEF").exists()
    assert (album.source / "R.jpg.xmp").exists()
    assert album.check()["counts"]["added"] == 1
    assert album.places()["one/R"] != pair


def test_the_raw_alone_takes_no_row_from_the_jpeg(album: Album) -> None:
    pair = album.add(album.one, "R", "jpg", "NEF")
    (album.source / "R.NEF").rename(album.target / "R.NEF")

    report = album.check()

    assert album.row(pair)["place"] == "one/R"
    assert album.places()["two/R"] != pair
    assert "followed" not in report["counts"]


def test_raw_and_jpeg_in_different_places_go_by_the_jpeg(album: Album) -> None:
    three = album.studio.project("three")
    album.studio.write_manifest(three)
    pair = album.add(album.one, "R", "jpg", "NEF")
    (album.source / "R.NEF").rename(album.target / "R.NEF")
    (album.source / "R.jpg").rename(album.studio.folder(three).path / "R.jpg")

    album.check()

    assert album.row(pair)["place"] == "three/R"
    assert album.places()["two/R"] != pair


def test_a_copy_gets_a_row_of_its_own(album: Album) -> None:
    before = album.row()
    shutil.copy2(album.source / "P.jpg", album.target / "P.jpg")
    shutil.copy2(album.source / "P.jpg", album.source / "P copy.jpg")

    report = album.check()

    assert album.row() == before
    assert album.places().keys() == {"one/P", "one/P copy", "two/P", "two/other"}
    assert "followed" not in report["counts"]


def test_of_two_photos_that_it_may_be_none_is_guessed(album: Album) -> None:
    twin = album.add(album.one, "Q", contents={"jpg": (album.source / "P.jpg").read_bytes()})
    (album.source / "P.jpg").rename(album.target / "P.jpg")
    (album.source / "Q.jpg").unlink()

    report = album.check()

    places = album.places()
    assert (places["one/P"], places["one/Q"]) == (album.photo_id, twin)
    assert "two/P" in places
    assert report["counts"]["moves not followed"] == 1
    assert all(name in report["examples"]["moves not followed"][0] for name in ("two/P", "one/P", "one/Q"))


def test_of_two_files_that_may_be_a_photo_none_is_guessed(album: Album) -> None:
    shutil.copy2(album.source / "P.jpg", album.target / "P.jpg")
    three = album.studio.project("three")
    album.studio.write_manifest(three)
    (album.source / "P.jpg").rename(album.studio.folder(three).path / "P.jpg")

    report = album.check()

    places = album.places()
    assert places["one/P"] == album.photo_id
    assert {"two/P", "three/P"} <= places.keys()
    assert report["counts"]["moves not followed"] == 2


def unreadable(album: Album, *_: object) -> list[Any]:
    raise FolderUnreadable(f"{album.source} cannot be read")


def test_photos_of_the_same_contents_that_were_moved_together_are_told_apart_by_their_names(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = album.add(album.one, "Q", contents={"jpg": (album.source / "P.jpg").read_bytes()})
    for name in ("P.jpg", "Q.jpg"):
        (album.source / name).rename(album.target / name)
    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "follow", partial(unreadable, album))
        assert album.check()["counts"] == {"moves not followed": 2}

    album.check()

    assert album.places() == {"two/P": album.photo_id, "two/Q": twin, "two/other": album.places()["two/other"]}


def test_other_contents_of_the_same_size_are_another_photo(album: Album) -> None:
    content = (album.source / "P.jpg").read_bytes()
    (album.target / "P.jpg").write_bytes(bytes(reversed(content)))
    (album.source / "P.jpg").unlink()

    report = album.check()

    assert album.places()["one/P"] == album.photo_id
    assert "followed" not in report["counts"]


def test_a_hash_of_an_earlier_version_is_known_as_well(album: Album) -> None:
    digest = hashlib.blake2b((album.source / "P.jpg").read_bytes(), digest_size=16).hexdigest()
    with album.studio.database.begin() as connection:
        connection.execute(photo_originals.update().values(content_hash=f"blake2b-128:{digest}"))
    (album.source / "P.jpg").rename(album.target / "P.jpg")

    album.check()

    assert album.row()["place"] == "two/P"


def test_without_a_known_hash_nothing_is_guessed(album: Album) -> None:
    photo_id = album.studio.photo(album.one, "L", "jpg")
    (album.source / "L.jpg").rename(album.target / "L.jpg")

    album.check()

    assert album.row(photo_id)["place"] == "one/L"


@pytest.mark.parametrize("has_mount_point", [True, False])
def test_a_drive_that_is_away_keeps_its_rows(album: Album, tmp_path: Any, has_mount_point: bool) -> None:
    other = album.add(album.one, "Q")
    shutil.copy2(album.source / "P.jpg", album.target / "P.jpg")
    album.source.rename(tmp_path / "away")
    if has_mount_point:
        album.source.mkdir()

    album.studio.run("folder_check", scope="global")

    assert album.row()["place"] == "one/P"
    assert album.places()["two/P"] != album.photo_id
    if has_mount_point:
        album.source.rmdir()
    (tmp_path / "away").rename(album.source)
    album.check()
    assert album.row()["place"] == "one/P"
    assert album.row(other)["place"] == "one/Q"


@pytest.mark.parametrize("runtime", [{"missing_grace_seconds": 0}], indirect=True)
@pytest.mark.parametrize(
    "steps", [("folder_check",), ("folder_discovery", "folder_check"), ("folder_discovery", "orphaned_project_cleanup")]
)
def test_a_folder_that_was_merged_by_hand_keeps_its_rows(album: Album, steps: tuple[str, ...]) -> None:
    before = album.row()
    others = [album.add(album.one, name) for name in ("Q", "R")]
    for name in ("P.jpg", "Q.jpg"):
        (album.source / name).rename(album.target / name)
    shutil.rmtree(album.source)

    for step in steps:
        album.check(step)

    assert album.row() == {**before, "place": "two/P", "statuses": ("missing", "missing")}
    assert album.row(others[0])["place"] == "two/Q"
    # Rows of photos that the user deleted are removed as usual.
    assert ("one/R" in album.places()) == (steps[-1] == "folder_check")


def test_a_folder_that_was_divided_by_hand_among_an_old_and_a_new_one_keeps_its_rows(album: Album) -> None:
    before = album.row()
    others = [album.add(album.one, name) for name in ("Q", "R")]
    for name in ("Q.jpg", "R.jpg"):
        (album.source / name).rename(album.target / name)
    new = album.source.with_name("new")
    new.mkdir()
    (album.source / "P.jpg").rename(new / "other name.jpg")
    shutil.rmtree(album.source)

    # folder_discovery works only on the new folder, which has less than half of the photos.
    album.check("folder_discovery")

    assert album.row() == {**before, "place": "new/other name", "statuses": ("missing", "missing")}
    assert [album.row(other)["place"] for other in others] == ["two/Q", "two/R"]


def test_a_folder_that_was_renamed_without_its_manifest_keeps_its_rows(album: Album) -> None:
    before = album.row()
    new = album.source.with_name("new")
    new.mkdir()
    (album.source / "P.jpg").rename(new / "P.jpg")
    shutil.rmtree(album.source)

    album.check("folder_discovery")

    assert album.row() == {**before, "place": "new/P", "statuses": ("missing", "missing")}


def test_a_photo_that_was_taken_out_of_a_folder_which_was_renamed_as_well_keeps_its_row(album: Album) -> None:
    other = album.add(album.one, "Q")
    (album.source / "P.jpg").rename(album.target / "P.jpg")
    album.source.rename(album.source.with_name("zzz"))

    report = album.check()
    assert album.row()["place"] == "one/P"
    assert "two/P" not in album.places()
    assert "folder_discovery" in report["examples"]["moves not followed"][0]
    album.check("folder_discovery")
    album.check()

    assert album.row()["place"] == "two/P"
    assert album.row(other)["place"] == "zzz/Q"


def test_a_row_is_followed_before_it_is_cleaned(album: Album) -> None:
    before = album.row()
    (album.source / "P.jpg").rename(album.target / "P.jpg")
    album.check("manifest_check")
    album.studio.database.clock.advance(seconds=30 * 86_400)

    report = album.check("manifest_cleaning", scope="project", project_id=album.one.id)

    assert album.row() == {**before, "place": "two/P"}
    assert report["counts"]["followed"] == 1


def test_a_row_whose_file_is_in_a_folder_that_is_no_project_yet_stays(album: Album) -> None:
    before = album.row()
    new = album.source.with_name("new")
    new.mkdir()
    (album.source / "P.jpg").rename(new / "P.jpg")
    album.check("manifest_check")
    album.studio.database.clock.advance(seconds=30 * 86_400)

    album.check("manifest_cleaning")
    assert album.row()["place"] == "one/P"
    album.check("folder_discovery")

    assert album.row() == {**before, "place": "new/P"}


@pytest.mark.parametrize("place", ["one/day 1", "two/2024/day 1", "new/day 1"])
def test_a_row_whose_file_is_in_a_folder_inside_a_project_stays(album: Album, place: str) -> None:
    before = album.row()
    inside = album.source.parent / place
    inside.mkdir(parents=True)
    (album.source / "P.jpg").rename(inside / "P.jpg")
    album.check("manifest_check")
    album.studio.database.clock.advance(seconds=30 * 86_400)

    report = album.check("manifest_cleaning")
    assert album.row()["place"] == "one/P"
    assert report["examples"]["moves not followed"] == [
        f"{place}/P: the file is in a folder inside a project; move it into the folder of the project itself"
    ]
    (inside / "P.jpg").rename(album.target / "P.jpg")
    album.check()

    assert album.row() == {**before, "place": "two/P"}


def test_nothing_is_taken_from_another_tenant(album: Album) -> None:
    foreign = album.studio.project("foreign", tenant_id="other")
    photo_id = album.add(foreign, "F")
    (album.studio.folder(foreign).path / "F.jpg").rename(album.target / "F.jpg")

    album.check()

    assert album.row(photo_id)["place"] == "foreign/F"


@pytest.mark.parametrize("definition", ["maintenance_global", "folder_discovery", "upload_postprocess"])
def test_the_undo_of_a_task_gives_the_row_back(album: Album, definition: str) -> None:
    target = album.target
    if definition == "folder_discovery":
        target = album.source.with_name("new")
        target.mkdir()
    before = album.row()
    (album.source / "P.jpg").rename(target / "P.jpg")
    scoped = {"project_id": album.two.id} if definition == "upload_postprocess" else {}
    tasks = TasksRepository(album.studio.database)

    tasks.start(new_task(DEFINITIONS[definition], task_id="task", tenant_id="tenant", **scoped))
    run(album.studio, "task")
    assert album.row() == {**before, "place": f"{target.name}/P"}
    tasks.start(new_task(DEFINITIONS["undo"], task_id="undo", tenant_id="tenant", payload={"undo": "task"}))
    run(album.studio, "undo")

    assert album.row() == before
    assert (album.source / ".thumb" / "P.webp").exists()
    assert f"{target.name}/P" not in album.places()


@pytest.mark.parametrize("step", ["folder_check", "manifest_cleaning"])
@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_change_ends_like_an_undisturbed_run(deaths: Any, step: str) -> None:
    def prepare(studio: Any) -> int:
        album = make_album(studio)
        second = album.add(album.one, "Q", "jpg", "NEF")
        (album.source / "P.jpg").rename(album.target / "P.jpg")
        for name in ("Q.jpg", "Q.NEF"):
            (album.source / name).rename(album.source / f"by hand {name}")
        if step == "manifest_cleaning":
            album.check("manifest_check")
            album.studio.database.clock.advance(seconds=30 * 86_400)
        assert (album.photo_id, second) == (1, 3)
        return int(studio.enqueue(step, scope="global"))

    ends = []
    for _ in deaths.each(prepare):
        outcome = deaths.studio.outcome()
        ends.append({name: found for name, found in outcome.items() if not name.endswith(".project.yaml")})
        assert deaths.studio.get_photo(1).project_id == 2
        assert deaths.studio.get_photo(3).filename == "by hand Q"
    assert len(ends) > 5
    for end in ends:
        assert end == ends[-1]


def test_a_project_that_is_removed_during_the_run_does_not_stop_the_others(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = album.studio.project("three")
    album.studio.write_manifest(three)
    moved = album.add(album.one, "Q")
    (album.source / "P.jpg").rename(album.target / "P.jpg")
    (album.source / "Q.jpg").rename(album.studio.folder(three).path / "Q.jpg")
    follow_moves = Arrivals.follow_moves

    def follow_later(self: Arrivals, **options: Any) -> None:
        shutil.rmtree(album.target)
        ProjectsRepository(album.studio.database).remove(album.two.id)
        follow_moves(self, **options)

    monkeypatch.setattr(Arrivals, "follow_moves", follow_later)
    album.check()
    assert album.places() == {"one/P": album.photo_id, "three/Q": moved}


def test_no_transaction_is_open_while_folders_are_searched(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    (album.source / "P.jpg").rename(album.target / "P.jpg")
    shutil.rmtree(album.source)
    read, look = StepContext.read, RenamedFolders._look
    is_open: list[bool] = []
    seen: list[list[bool]] = []

    @contextmanager
    def counted(self: StepContext) -> Iterator[Any]:
        with read(self) as connection:
            is_open.append(True)
            yield connection
        is_open.pop()

    def search(self: RenamedFolders) -> Any:
        seen.append(list(is_open))
        return look(self)

    monkeypatch.setattr(StepContext, "read", counted)
    monkeypatch.setattr(RenamedFolders, "_look", search)
    assert album.check()["counts"]["followed"] == 1
    assert seen == [[]]
