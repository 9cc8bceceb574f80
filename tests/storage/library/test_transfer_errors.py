"""Moves, and renames of folders, while the disk fails, writes only parts, or is changed by other programs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.library import exclusive_rename, transfer
from storage.library.errors import Collision, CrossesFileSystems, SourceChanged, SourceMissing, UnsafePath
from storage.library.naming.folder_names import FolderNames
from storage.library.paths import Library, ProjectFolder
from storage.library.transfer import move_without_overwrite, remove_derivative, rename_folder_without_overwrite
from tests.storage.library.conftest import WithBindMount, WithOverlay, raising, two_file_systems

CONTENTS = bytes(range(256)) * 5000  # More than one block.
MOMENT = 1_600_000_000_123_456_789


@pytest.fixture
def photo(project: ProjectFolder) -> Path:
    path = project.original("a.jpg")
    path.write_bytes(CONTENTS)
    path.chmod(0o640)
    os.utime(path, ns=(MOMENT - 7, MOMENT))
    return path


@pytest.fixture
def target(other_project: ProjectFolder) -> Path:
    return other_project.original("b.jpg")


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


@two_file_systems
def test_a_copy_has_the_mode_and_both_times_of_the_original(file_system: str, photo: Path, target: Path) -> None:
    move_without_overwrite(photo, target)
    status = target.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_atime_ns, status.st_mtime_ns) == (0o640, MOMENT - 7, MOMENT)


@pytest.mark.parametrize("file_system", ["two file systems"], indirect=True)
@pytest.mark.parametrize("has_lists", [True, False])
def test_a_copy_gives_no_group_the_rights_that_an_access_list_gives_to_one_user(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, has_lists: bool
) -> None:
    # The owner and the user 1234 may read and write; the group may not, but its bits in the mode are those of the mask.
    entries = ((0x01, 6, 2**32 - 1), (0x02, 6, 1234), (0x04, 0, 2**32 - 1), (0x10, 6, 2**32 - 1), (0x20, 0, 2**32 - 1))
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(photo, "system.posix_acl_access", access)
    except OSError:
        pytest.skip("the disk stores no access lists")
    assert stat.S_IMODE(photo.stat().st_mode) == 0o660
    if not has_lists:
        monkeypatch.setattr(os, "setxattr", raising(errno.ENOTSUP))
    move_without_overwrite(photo, target)
    assert stat.S_IMODE(target.stat().st_mode) == (0o660 if has_lists else 0o600)
    assert ("system.posix_acl_access" in os.listxattr(target)) is has_lists


@two_file_systems
@pytest.mark.parametrize("call", ["chmod", "utime"])
def test_a_disk_that_stores_no_mode_or_time_gets_the_contents_all_the_same(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, raising(errno.EPERM))
    move_without_overwrite(photo, target)
    assert (target.read_bytes(), photo.exists()) == (CONTENTS, False)


@two_file_systems
def test_a_disk_that_writes_in_parts_gets_all_of_them(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, block: write(descriptor, block[: max(1, len(block) // 3)]))
    move_without_overwrite(photo, target)
    assert target.read_bytes() == CONTENTS


@two_file_systems
@pytest.mark.parametrize("change", ["contents", "size", "another file"])
@pytest.mark.parametrize("when", ["during the copy", "after it has its name"])
def test_a_file_that_changes_before_its_old_name_is_removed_stays(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, change: str, when: str
) -> None:
    def apply() -> None:
        if change == "another file":
            other = photo.with_name("other")
            other.write_bytes(CONTENTS[::-1])
            other.replace(photo)
        else:
            photo.write_bytes(CONTENTS[::-1] + (b"x" if change == "size" else b""))
        # A program may keep the time.
        os.utime(photo, ns=(MOMENT, MOMENT + (change == "contents")))

    rename = transfer.rename_exclusively

    def renaming(source: Path, target: Path, **more: Any) -> None:
        if when == "after it has its name" and source.parent == target.parent:
            rename(source, target, **more)
            apply()
            return
        rename(source, target, **more)

    if when == "during the copy":
        times = transfer._copy_attributes
        monkeypatch.setattr(transfer, "_copy_attributes", lambda *given: (times(*given), apply()))
    monkeypatch.setattr(transfer, "rename_exclusively", renaming)
    with pytest.raises(SourceChanged):
        move_without_overwrite(photo, target)
    assert photo.read_bytes()[: len(CONTENTS)] == CONTENTS[::-1]
    assert _files(target.parent) == (set() if when == "during the copy" else {"b.jpg"})


@two_file_systems
@pytest.mark.parametrize("kind", ["shorter", "folder", "link"])
def test_what_is_not_a_copy_of_the_file_is_not_taken_for_one(
    file_system: str, photo: Path, target: Path, kind: str
) -> None:
    if kind == "shorter":
        target.write_bytes(CONTENTS[:-1])
        os.utime(target, ns=(MOMENT, MOMENT))
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(photo)
    with pytest.raises(Collision, match=r"b\.jpg"):
        move_without_overwrite(photo, target)
    assert photo.read_bytes() == CONTENTS


def test_on_one_file_system_a_copy_is_another_file(photo: Path, target: Path) -> None:
    target.write_bytes(CONTENTS)
    os.utime(target, ns=(MOMENT, MOMENT))
    with pytest.raises(Collision):
        move_without_overwrite(photo, target)
    assert photo.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOSPC])
def test_an_error_of_the_disk_begins_no_copy(
    photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(transfer, "rename_exclusively", raising(number))
    with pytest.raises(OSError) as raised:
        move_without_overwrite(photo, target)
    assert raised.value.errno == number
    assert (photo.read_bytes(), _files(target.parent)) == (CONTENTS, set())


def test_a_file_that_disappears_in_the_last_moment_is_named(
    photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "rename_exclusively", raising(errno.ENOENT))
    with pytest.raises(SourceMissing, match=r"a\.jpg disappeared"):
        move_without_overwrite(photo, target)


def test_a_file_that_has_its_name_stays(photo: Path) -> None:
    names = FolderNames.read(photo.parent)
    move_without_overwrite(photo, Path(str(photo)), names=names)
    assert (photo.read_bytes(), names.same_as("a.jpg")) == (CONTENTS, {"a.jpg"})


def test_a_listed_name_is_taken_only_as_long_as_the_file_is_there(photo: Path, target: Path) -> None:
    target.touch()
    names = FolderNames.read(target.parent)
    with pytest.raises(Collision):
        move_without_overwrite(photo, target, names=names)
    target.unlink()
    move_without_overwrite(photo, target, names=names)
    assert (target.read_bytes(), names.same_as("b.jpg")) == (CONTENTS, {"b.jpg"})


@pytest.mark.parametrize("place", ["1 earlier", "z later"])
def test_a_folder_is_not_renamed_onto_itself_in_another_folder(project: ProjectFolder, photo: Path, place: str) -> None:
    other = project.path.parent.with_name(place)
    other.symlink_to(project.path.parent)
    with pytest.raises(Collision):
        rename_folder_without_overwrite(project.path, other / project.path.name)
    assert photo.exists()


def test_within_a_folder_the_old_name_is_free_again(photo: Path) -> None:
    names = FolderNames.read(photo.parent)
    move_without_overwrite(photo, photo.with_name("c.jpg"), names=names)
    assert (names.same_as("a.jpg"), names.same_as("c.jpg")) == (set(), {"c.jpg"})


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EEXIST, Collision),
        (errno.ENOTEMPTY, Collision),
        (errno.ENOTDIR, Collision),
        (errno.EXDEV, CrossesFileSystems),
        (errno.EBUSY, CrossesFileSystems),
        (errno.EIO, OSError),
        (errno.EACCES, OSError),
    ],
)
def test_a_folder_that_cannot_be_renamed_says_why(
    project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    monkeypatch.setattr(transfer, "rename_noreplace", raising(number))
    with pytest.raises(expected) as raised:
        rename_folder_without_overwrite(project.path, project.path.with_name("Norway"))
    assert expected is not OSError or getattr(raised.value, "errno", None) == number
    assert photo.exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_or_file_that_keeps_its_spelling_is_not_taken_for_renamed(
    project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # On a disk that ignores case, Linux takes both spellings for two links of one file, and renames nothing.
    monkeypatch.setattr(os, "rename", lambda source, target: None)
    monkeypatch.setattr(Path, "samefile", lambda *_: True)
    monkeypatch.setattr(exclusive_rename, "_are_two_entries", lambda *_: False)
    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: lstat(path.with_name("a.jpg" if kind == "file" else "Iceland")))
    rename, path = (
        (rename_folder_without_overwrite, project.path) if kind == "folder" else (move_without_overwrite, photo)
    )
    with pytest.raises(Collision, match="ignores case"):
        rename(path, path.with_name(path.name.upper()))


def test_a_folder_in_a_lower_layer_of_an_overlay_says_that_it_cannot_be_renamed(
    library: Library, project: ProjectFolder, photo: Path, with_overlay: WithOverlay
) -> None:
    def rename() -> None:
        with pytest.raises(CrossesFileSystems, match="overlay"):
            rename_folder_without_overwrite(project.path, project.path.with_name("Norway"))
        assert photo.exists()

    with_overlay(library.root, rename)


def test_in_an_overlay_whose_files_have_other_device_numbers_a_copy_is_another_file(
    library: Library, photo: Path, target: Path, with_overlay: WithOverlay
) -> None:
    shutil.copy2(photo, target)

    def move() -> None:
        with pytest.raises(Collision):
            move_without_overwrite(photo, target)
        assert photo.exists()

    with_overlay(library.root, move)


def test_a_folder_that_has_its_name_is_missing_or_a_link_is_not_renamed(project: ProjectFolder, photo: Path) -> None:
    rename_folder_without_overwrite(project.path, Path(str(project.path)))
    assert photo.exists()
    with pytest.raises(SourceMissing):
        rename_folder_without_overwrite(project.path.with_name("gone"), project.path.with_name("Norway"))
    link = project.path.with_name("link")
    link.symlink_to(project.path)
    for source in (link, photo):
        with pytest.raises(UnsafePath, match="not a folder"):
            rename_folder_without_overwrite(source, project.path.with_name("Norway"))


@pytest.mark.parametrize("folder", [".thumb", ".preview"])
def test_a_derivative_is_a_file_directly_in_its_folder(project: ProjectFolder, photo: Path, folder: str) -> None:
    derivatives = project.path / folder
    derivatives.mkdir(exist_ok=True)
    path = derivatives / "a.webp"
    path.touch()
    (derivatives / "deeper").mkdir()
    (derivatives / "deeper" / "a.webp").touch()
    refused = [
        derivatives / "deeper",
        derivatives / "deeper" / "a.webp",
        derivatives / ".." / folder / "a.webp",
        derivatives / "..",
        Path(os.path.relpath(path)),
        Path(folder, "a.webp"),
        photo,
    ]
    for other in refused:
        with pytest.raises(UnsafePath):
            remove_derivative(other)
    assert path.exists()
    assert remove_derivative(path)
    assert not remove_derivative(path)
    assert photo.exists()


@pytest.mark.parametrize("file_system", ["hard links", "two file systems", "two file systems, neither"], indirect=True)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY])
def test_a_file_whose_old_name_cannot_be_removed_gets_no_second_name(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _refuse_removal(monkeypatch, photo, number)
    with pytest.raises(OSError) as raised:
        move_without_overwrite(photo, target)
    assert raised.value.errno == number
    assert (photo.read_bytes(), _files(target.parent)) == (CONTENTS, set())


@two_file_systems
@pytest.mark.parametrize(
    "case", ["the disk fails", "it is gone", "it was replaced", "the copy was replaced", "an edit"]
)
def test_a_copy_stays_unless_the_original_is_certainly_there(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    contents = CONTENTS[::-1] if case == "an edit" else CONTENTS

    def change() -> None:
        if case == "it is gone":
            photo.replace(photo.with_name("elsewhere.jpg"))
        elif case == "an edit":
            target.write_bytes(contents)
        elif case in ("it was replaced", "the copy was replaced"):
            replaced = photo if case == "it was replaced" else target
            other = replaced.with_name("other")
            other.write_bytes(CONTENTS)
            other.replace(replaced)

    _refuse_removal(monkeypatch, photo, errno.EIO if case == "the disk fails" else errno.EPERM, before=change)
    with pytest.raises(OSError):
        move_without_overwrite(photo, target)
    assert target.read_bytes() == contents


def test_an_interrupted_move_between_two_mounts_of_one_disk_is_finished(
    tmp_path: Path, photo: Path, target: Path, with_bind_mount: WithBindMount
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def finish_move() -> None:
        shutil.copy2(photo, target)
        move_without_overwrite(photo, target)

    with_bind_mount(elsewhere, target.parent, finish_move)
    assert (photo.exists(), (elsewhere / target.name).read_bytes()) == (False, CONTENTS)


def test_a_file_that_two_mounts_show_is_no_copy_of_itself(
    photo: Path, target: Path, with_bind_mount: WithBindMount
) -> None:
    def move_onto_itself() -> None:
        with pytest.raises(Collision):
            move_without_overwrite(photo, target.with_name(photo.name))

    with_bind_mount(photo.parent, target.parent, move_onto_itself)
    assert photo.read_bytes() == CONTENTS


@two_file_systems
@pytest.mark.parametrize("change", ["the original is edited", "the copy is edited", "the copy is gone"])
def test_the_move_that_finishes_an_interrupted_one_removes_no_newer_and_no_only_copy(
    file_system: str, photo: Path, target: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    shutil.copy2(photo, target)
    digest = transfer.hash_contents

    def change_after_comparison(path: Path) -> str:
        found = digest(path)
        if path == target:
            if change == "the copy is gone":
                target.unlink()
            else:
                (photo if change == "the original is edited" else target).write_bytes(CONTENTS[::-1])
        return found

    monkeypatch.setattr(transfer, "hash_contents", change_after_comparison)
    with pytest.raises((SourceChanged, SourceMissing)):
        move_without_overwrite(photo, target)
    assert photo.read_bytes() == (CONTENTS[::-1] if change == "the original is edited" else CONTENTS)


def _refuse_removal(
    monkeypatch: pytest.MonkeyPatch, file: Path, number: int, *, before: Callable[[], None] = lambda: None
) -> None:
    """Make the system refuse to remove the name of a file, or to rename the file."""

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(path: Any, *rest: Any, **more: Any) -> Any:
            if os.fspath(path) == str(file):
                before()
                raise OSError(number, os.strerror(number), str(file))
            return call(path, *rest, **more)

        return run

    for name in ("unlink", "rename"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
