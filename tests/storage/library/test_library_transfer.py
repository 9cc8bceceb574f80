import errno
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.library import atomic_write, exclusive_rename, transfer
from storage.library.atomic_write import remove_stale_temporaries
from storage.library.errors import (
    Collision,
    CopyMismatch,
    CrossesFileSystems,
    FolderMissing,
    NotEnoughSpace,
    SourceChanged,
    SourceMissing,
    UnsafePath,
)
from storage.library.naming.folder_names import FolderNames
from storage.library.paths import ProjectFolder
from storage.library.transfer import (
    move_without_overwrite,
    remove_derivative,
    rename_folder_without_overwrite,
    sync_moves,
)
from tests.storage.library.conftest import two_file_systems

PICTURE = bytes(range(256)) * 9000  # More than two blocks.


def visible(folder: Path) -> dict[str, bytes]:
    """The regular files of a folder with their contents, hidden leftovers among them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def photo(project: ProjectFolder) -> Path:
    return take(project.original("a.jpg"))


def take(path: Path) -> Path:
    path.write_bytes(PICTURE)
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))
    return path


@pytest.mark.usefixtures("file_system")
def test_a_move_carries_the_file_with_its_time(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder
) -> None:
    target = other_project.original("b.jpg")
    move_without_overwrite(photo, target)
    assert visible(project.path) == {}
    assert visible(other_project.path) == {"b.jpg": PICTURE}
    assert target.stat().st_mtime_ns == 1_600_000_000_000_000_000
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("taken", ["b.jpg", "B.JPG", "ﬀ.jpg"])
def test_a_move_never_overwrites_nor_takes_a_name_that_counts_as_the_same(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder, taken: str
) -> None:
    (other_project.path / taken).write_bytes(PICTURE)
    target = other_project.original({"ﬀ.jpg": "FF.jpg"}.get(taken, "b.jpg"))
    with pytest.raises(Collision, match="already exists there"):
        move_without_overwrite(photo, target)
    assert visible(project.path) == {"a.jpg": PICTURE}
    assert visible(other_project.path) == {taken: PICTURE}


@pytest.mark.usefixtures("file_system")
def test_a_file_that_appears_in_the_last_moment_is_not_overwritten(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder
) -> None:
    target = other_project.original("b.jpg")
    names = FolderNames.read(other_project.path)
    target.write_bytes(b"somebody else's")
    with pytest.raises(Collision):
        move_without_overwrite(photo, target, names=names)
    assert visible(project.path) == {"a.jpg": PICTURE}
    assert visible(other_project.path) == {"b.jpg": b"somebody else's"}


@pytest.mark.usefixtures("file_system")
def test_a_file_can_change_the_case_of_its_own_name(photo: Path, project: ProjectFolder) -> None:
    move_without_overwrite(photo, project.original("A.JPG"))
    assert visible(project.path) == {"A.JPG": PICTURE}


def test_a_move_that_dies_at_any_point_loses_nothing_and_can_be_repeated(
    file_system: str,
    photo: Path,
    project: ProjectFolder,
    other_project: ProjectFolder,
    crash_points,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(atomic_write, "STALE_TEMPORARY_SECONDS", -1)
    target = other_project.original("b.jpg")
    deaths = 0
    for _ in crash_points(lambda: move_without_overwrite(photo, target)):
        deaths += 1
        left = [*visible(project.path).values(), *visible(other_project.path).values()]
        assert PICTURE in left
        if photo.exists():
            move_without_overwrite(photo, target)
        assert visible(project.path) == {}
        assert visible(other_project.path)["b.jpg"] == PICTURE
        remove_stale_temporaries(other_project.path, content_path=Path)
        assert visible(other_project.path) == {"b.jpg": PICTURE}
        target.unlink()
        take(photo)
    assert deaths >= {"renameat2": 1, "hard links": 2, "neither": 3}.get(file_system, 7)
    assert visible(other_project.path) == {"b.jpg": PICTURE}


@pytest.mark.usefixtures("file_system")
def test_a_move_that_fails_at_any_point_leaves_no_temporary_file(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = other_project.original("b.jpg")
    for name in ("open", "write", "fsync", "rename"):
        with monkeypatch.context() as patch:

            def fail(*arguments: object, **options: object) -> None:
                raise OSError(5, "Input/output error")

            patch.setattr(os, name, fail)
            try:
                move_without_overwrite(photo, target)
            except OSError as error:
                assert error.errno == 5  # noqa: PT017 - some file systems need none of the failing calls.
        left = visible(project.path) | visible(other_project.path)
        assert PICTURE in left.values()
        assert set(left) <= {"a.jpg", "b.jpg"}
        if photo.exists():
            move_without_overwrite(photo, target)
        target.unlink()
        take(photo)


@pytest.fixture
def listed_without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave a name out of all listings, as on a file system that ignores case: two spellings reach one entry."""
    real = os.scandir

    def leave_out(name: str) -> None:
        class Listing:
            def __init__(self, path: object) -> None:
                self.entries = real(path)

            def __enter__(self) -> list[os.DirEntry[str]]:
                return [entry for entry in self.entries if entry.name != name]

            def __exit__(self, *_: object) -> None:
                self.entries.close()

        monkeypatch.setattr(os, "scandir", Listing)

    return leave_out


def test_one_entry_reached_by_two_spellings_is_renamed_and_not_unlinked(
    photo: Path, listed_without: Callable[[str], None]
) -> None:
    target = photo.with_name("A.JPG")
    os.link(photo, target)
    listed_without("A.JPG")
    move_without_overwrite(photo, target)
    assert target.read_bytes() == PICTURE


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_only_another_file_system_makes_a_move_a_copy(
    number: int, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exclusive_rename.rename_exclusively

    def refuse(source: Path, target: Path, **options: Any) -> None:
        if source == photo:
            raise OSError(number, os.strerror(number))
        real(source, target, **options)

    monkeypatch.setattr(transfer, "rename_exclusively", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        move_without_overwrite(photo, other_project.original("b.jpg"))
    assert photo.read_bytes() == PICTURE
    assert visible(other_project.path) == {}


def test_moving_what_is_gone_or_no_file_is_refused(project: ProjectFolder, other_project: ProjectFolder) -> None:
    with pytest.raises(SourceMissing):
        move_without_overwrite(project.path / "gone.jpg", other_project.path / "b.jpg")
    (project.path / "link.jpg").symlink_to("/etc/hostname")
    (project.path / "folder").mkdir()
    for name in ("link.jpg", "folder"):
        with pytest.raises(UnsafePath, match="not a regular file"):
            move_without_overwrite(project.path / name, other_project.path / "b.jpg")


def test_moving_into_a_missing_folder_leaves_the_file(photo: Path, project: ProjectFolder) -> None:
    for names in (None, FolderNames()):
        with pytest.raises(FolderMissing):
            move_without_overwrite(photo, project.path / "nowhere" / "b.jpg", names=names)
    assert photo.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Python has extended attributes only there")
@two_file_systems
def test_a_file_keeps_its_rating_and_owner_on_another_disk(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        os.setxattr(photo, "user.baloo.rating", b"8")
    except OSError:
        pytest.skip("the file system stores no extended attributes")
    photo.chmod(0o440)
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group, **_: owners.append((user, group)))
    before, target = photo.stat(), other_project.original("b.jpg")

    move_without_overwrite(photo, target)

    after = target.stat()
    assert os.getxattr(target, "user.baloo.rating") == b"8"
    assert owners == [(before.st_uid, before.st_gid)]
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@two_file_systems
def test_a_copy_that_would_not_fit_is_not_begun(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(NotEnoughSpace, match="Free some space"):
        move_without_overwrite(photo, other_project.original("b.jpg"))
    assert photo.read_bytes() == PICTURE
    assert visible(other_project.path) == {}


@two_file_systems
def test_a_copy_that_reads_back_differently_is_thrown_away(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, block: write(fd, bytes(len(block))))
    with pytest.raises(CopyMismatch):
        move_without_overwrite(photo, other_project.original("b.jpg"))
    assert photo.read_bytes() == PICTURE
    assert visible(other_project.path) == {}


@two_file_systems
def test_a_file_that_is_written_to_during_the_copy_stays(
    file_system: str, photo: Path, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = transfer.hash_contents

    def write_meanwhile(path: Path) -> bytes:
        photo.write_bytes(b"new contents")
        return digest(path)

    monkeypatch.setattr(transfer, "hash_contents", write_meanwhile)
    with pytest.raises(SourceChanged, match="Try again"):
        move_without_overwrite(photo, other_project.original("b.jpg"))
    assert photo.read_bytes() == b"new contents"
    assert visible(other_project.path) == {}


@two_file_systems
def test_another_file_of_the_same_size_and_time_is_not_taken_for_a_finished_copy(
    file_system: str, photo: Path, other_project: ProjectFolder
) -> None:
    target = other_project.original("b.jpg")
    target.write_bytes(PICTURE[::-1])
    os.utime(target, ns=(photo.stat().st_atime_ns, photo.stat().st_mtime_ns))
    with pytest.raises(Collision):
        move_without_overwrite(photo, target)
    assert photo.read_bytes() == PICTURE


def test_a_batch_of_moves_keeps_the_names_it_was_given(
    photo: Path, project: ProjectFolder, other_project: ProjectFolder
) -> None:
    names = FolderNames.read(other_project.path)
    move_without_overwrite(photo, other_project.original("b.jpg"), names=names)
    photo.write_bytes(b"second")
    with pytest.raises(Collision):
        move_without_overwrite(photo, other_project.original("B.jpg"), names=names)
    move_without_overwrite(other_project.original("b.jpg"), other_project.original("c.jpg"), names=names)
    move_without_overwrite(photo, other_project.original("B.jpg"), names=names)
    assert visible(other_project.path) == {"c.jpg": PICTURE, "B.jpg": b"second"}


@pytest.mark.parametrize("kind", ["renameat2", "no renameat2"])
def test_a_folder_is_renamed_but_never_onto_another(
    kind: str, project: ProjectFolder, other_project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "renameat2":
        monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    tenant = project.tenant.path
    for taken in ("Norway", "NORWAY"):
        with pytest.raises(Collision):
            rename_folder_without_overwrite(project.path, tenant / taken)
    shutil.rmtree(other_project.path)
    other_project.path.mkdir()
    with pytest.raises(Collision):
        rename_folder_without_overwrite(project.path, other_project.path)
    rename_folder_without_overwrite(project.path, tenant / "ICELAND")
    assert visible(tenant / "ICELAND") == {"a.jpg": PICTURE}
    with pytest.raises(SourceMissing):
        rename_folder_without_overwrite(project.path, tenant / "ICELAND")


def test_a_folder_is_not_renamed_onto_a_link_to_itself(project: ProjectFolder, photo: Path) -> None:
    link = project.path.with_name("iceland")
    link.symlink_to(project.path)
    with pytest.raises(Collision):
        rename_folder_without_overwrite(project.path, link)
    with pytest.raises(UnsafePath, match="not a folder"):
        rename_folder_without_overwrite(link, project.path.with_name("x"))
    assert photo.read_bytes() == PICTURE


def test_a_folder_is_not_renamed_onto_another_file_system(
    project: ProjectFolder, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> bool:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(transfer, "rename_noreplace", refuse)
    with pytest.raises(CrossesFileSystems):
        rename_folder_without_overwrite(project.path, project.path.with_name("Elsewhere"))
    assert photo.exists()


def test_only_derivatives_are_removed_as_derivatives(project: ProjectFolder, photo: Path) -> None:
    thumbnail = project.thumbnail("a")
    thumbnail.write_bytes(b"webp")
    assert remove_derivative(thumbnail) is True
    assert remove_derivative(thumbnail) is False
    for path in (photo, project.thumb, project.thumb / ".." / "a.jpg", project.manifest_path, Path(".thumb/a.webp")):
        with pytest.raises(UnsafePath):
            remove_derivative(path)
    assert photo.exists()


def test_no_derivative_is_removed_through_a_symlinked_folder(project: ProjectFolder, photo: Path) -> None:
    project.thumb.rmdir()
    (project.path / ".thumb").symlink_to(project.path)
    with pytest.raises(UnsafePath):
        remove_derivative(project.path / ".thumb" / "a.jpg")
    assert photo.exists()


def test_new_names_are_synced_before_old_ones_and_with_the_folders_made_for_them(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(transfer, "fsync_folder", synced.append)
    wrapped = project.trash / "mark" / "long.jpg"
    sync_moves([(project.original("a.jpg"), project.trash / "a.jpg"), (project.original("long.jpg"), wrapped)])
    assert set(synced[:2]) == {project.trash, wrapped.parent}
    assert project.path in synced[2:]


def test_a_move_from_another_project_syncs_both_folders_that_contain_new_ones(
    project: ProjectFolder, other_project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(transfer, "fsync_folder", synced.append)
    wrapped = project.trash / "mark" / "long.jpg"
    sync_moves([(other_project.original("long.jpg"), wrapped)])
    assert synced[0] == wrapped.parent
    assert sorted(synced[1:]) == sorted([project.trash, project.path, other_project.path])
