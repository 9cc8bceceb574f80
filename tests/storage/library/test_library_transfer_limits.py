"""The limits at which a move or a rename of a folder is refused, or is recognized as already done."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from storage.library import exclusive_rename, transfer
from storage.library.errors import Collision, NotEnoughSpace
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import name_key
from storage.library.paths import ProjectFolder
from storage.library.transfer import move_without_overwrite, rename_folder_without_overwrite

CONTENTS = b"contents" * 1000
SECOND = 1_000_000_000
#: Around it the binary forms of two near times have no digit in common.
MOMENT = 2**60


@pytest.fixture
def photo(project: ProjectFolder) -> Path:
    path = project.original("a.jpg")
    path.write_bytes(CONTENTS)
    return path


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
def test_a_copy_leaves_64_mib_of_the_target_free(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    enough = 64 * 1024 * 1024 + len(CONTENTS)
    target = other_project.original("b.jpg")

    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * enough, 0, enough - 1))
    with pytest.raises(NotEnoughSpace):
        move_without_overwrite(photo, target)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * enough, 0, enough))
    move_without_overwrite(photo, target)

    assert target.read_bytes() == CONTENTS


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
def test_a_disk_that_does_not_report_its_size_is_not_full(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    move_without_overwrite(photo, other_project.original("b.jpg"))

    assert other_project.original("b.jpg").read_bytes() == CONTENTS


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
def test_a_large_file_needs_its_own_size_beside_the_64_mib(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    size = 64 * 1024 * 1024 + 1
    os.truncate(photo, size)
    too_little = 64 * 1024 * 1024 + size - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * size, 0, too_little))

    with pytest.raises(NotEnoughSpace):
        move_without_overwrite(photo, other_project.original("b.jpg"))

    assert photo.stat().st_size == size


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
@pytest.mark.parametrize("difference_ns", [-2 * SECOND, SECOND, 2 * SECOND])
def test_a_copy_whose_disk_rounds_times_to_two_seconds_is_known_again(
    file_system: str, photo: Path, other_project: ProjectFolder, difference_ns: int
) -> None:
    target = other_project.original("b.jpg")
    target.write_bytes(CONTENTS)
    os.utime(photo, ns=(MOMENT, MOMENT - SECOND // 2))
    os.utime(target, ns=(MOMENT, MOMENT - SECOND // 2 + difference_ns))

    move_without_overwrite(photo, target)

    assert not photo.exists()
    assert target.read_bytes() == CONTENTS


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
def test_a_file_of_the_same_contents_and_another_time_is_not_taken_for_the_copy(
    file_system: str, photo: Path, other_project: ProjectFolder
) -> None:
    target = other_project.original("b.jpg")
    target.write_bytes(CONTENTS)
    os.utime(photo, ns=(MOMENT, MOMENT))
    os.utime(target, ns=(MOMENT, MOMENT + 2 * SECOND + 1))

    with pytest.raises(Collision):
        move_without_overwrite(photo, target)

    assert photo.exists()


@pytest.mark.parametrize("direction", ["to a later folder", "to an earlier folder"])
def test_the_name_in_the_other_folder_stays_taken(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder, direction: str
) -> None:
    here, there = (project, other_project) if "later" in direction else (other_project, project)
    moved = here.original("x.jpg")
    photo.rename(moved)
    of_same_name = there.original("x.jpg")
    of_same_name.write_bytes(b"other")
    names = FolderNames.read(there.path)

    with pytest.raises(Collision):
        move_without_overwrite(moved, there.original("X.JPG"), names=names)
    move_without_overwrite(moved, there.original("y.jpg"), names=names)

    assert names.same_as("x.jpg") == {"x.jpg"}
    assert names.same_as("y.jpg") == {"y.jpg"}
    assert of_same_name.read_bytes() == b"other"


@pytest.mark.parametrize("listed", ["Iceland", "iCELAND", "ICELAND"])
def test_a_folder_gets_another_spelling_where_both_are_one_entry(
    listed: str, project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> bool:
        raise OSError(17, "File exists")

    # As on a file system that ignores case. The listing may have a spelling that the row does not have, for example
    # the new one: a crash came after an earlier rename, before the row was written.
    monkeypatch.setattr(Path, "samefile", lambda self, other: name_key(self.name) == name_key(other.name))
    monkeypatch.setattr(transfer, "rename_noreplace", refuse)
    names = FolderNames()
    names.add(listed)
    monkeypatch.setattr(FolderNames, "read", lambda _: names)
    target = project.path.with_name("ICELAND")

    rename_folder_without_overwrite(project.path, target)

    assert [path.name for path in target.parent.iterdir() if path.name.lower() == "iceland"] == ["ICELAND"]
    assert (target / "a.jpg").read_bytes() == CONTENTS


def test_a_folder_is_not_renamed_onto_an_empty_one_that_came_after_the_listing(
    project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    target = project.path.with_name("Empty")
    target.mkdir()

    with pytest.raises(Collision):
        rename_folder_without_overwrite(project.path, target, names=FolderNames())

    assert photo.exists()
    assert target.is_dir()
