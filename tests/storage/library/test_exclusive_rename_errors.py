"""A rename that overwrites nothing: errors that lead to the next method, errors that end it, and left reservations."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.library import exclusive_rename
from storage.library.exclusive_rename import finish_interrupted, rename_exclusively, rename_noreplace
from tests.storage.library.conftest import raising

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "fox.jpg"
    path.write_bytes(b"fox")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "hen.jpg"


def _failing(number: int) -> Callable[..., int]:
    """Return a system call that fails with this error."""

    def fail(*_: object) -> int:
        ctypes.set_errno(number)
        return -1

    return fail


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("of_link", [*_UNSUPPORTED, errno.EPERM, errno.EMLINK, errno.EACCES])
@pytest.mark.parametrize("of_rename", _UNSUPPORTED)
def test_a_system_without_the_first_two_ways_takes_the_third(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, of_rename: int, of_link: int
) -> None:
    monkeypatch.setattr(exclusive_rename, "_renameat2", _failing(of_rename))
    monkeypatch.setattr(os, "link", raising(of_link))
    rename_exclusively(source, target)
    assert (_names(target.parent), target.read_bytes()) == ({"hen.jpg"}, b"fox")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EMLINK, errno.EIO, errno.EXDEV])
def test_any_other_error_of_the_first_way_ends_the_rename(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(exclusive_rename, "_renameat2", _failing(number))
    for rename in (rename_exclusively, rename_noreplace):
        with pytest.raises(OSError) as raised:
            rename(source, target)
        assert raised.value.errno == number
    assert _names(target.parent) == {"fox.jpg"}


@pytest.mark.parametrize("number", [errno.EIO, errno.EXDEV, errno.ENOSPC])
def test_any_other_error_of_a_link_ends_the_rename(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    monkeypatch.setattr(os, "link", raising(number))
    with pytest.raises(OSError) as raised:
        rename_exclusively(source, target)
    assert raised.value.errno == number
    assert _names(target.parent) == {"fox.jpg"}


def test_a_rename_of_one_step_says_whether_the_system_has_it(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in _UNSUPPORTED:
        with monkeypatch.context() as patch:
            patch.setattr(exclusive_rename, "_renameat2", _failing(number))
            assert not rename_noreplace(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(exclusive_rename, "_renameat2", None)
        assert not rename_noreplace(source, target)
    assert _names(target.parent) == {"fox.jpg"}


def test_the_system_is_asked_for_the_exact_names_and_its_error_is_passed_on(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def refuse(*arguments: object) -> int:
        calls.append(arguments)
        return -1

    monkeypatch.setattr(exclusive_rename, "_renameat2", refuse)
    monkeypatch.setattr(exclusive_rename.ctypes, "get_errno", lambda: errno.EEXIST)
    with pytest.raises(FileExistsError) as raised:
        rename_exclusively(source, target)
    assert (raised.value.filename, raised.value.filename2) == (str(source), str(target))
    # From renameat2(2): AT_FDCWD is -100, RENAME_NOREPLACE is 1.
    assert calls == [(-100, os.fsencode(source), -100, os.fsencode(target), 1)]


@pytest.mark.parametrize("grown", [False, True])
def test_a_reservation_whose_rename_fails_is_removed_unless_a_file_has_come_in_its_place(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, grown: bool
) -> None:
    def fail(_: object, to: object) -> None:
        if grown:
            Path(os.fspath(to)).write_bytes(b"of another program")  # type: ignore[call-overload]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    monkeypatch.setattr(os, "link", raising(errno.EPERM))
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        rename_exclusively(source, target)
    assert _names(target.parent) == ({"fox.jpg", "hen.jpg"} if grown else {"fox.jpg"})
    assert source.read_bytes() == b"fox"


def test_without_the_first_two_ways_a_name_that_exists_is_not_replaced(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.touch()
    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    monkeypatch.setattr(os, "link", raising(errno.EPERM))
    with pytest.raises(FileExistsError):
        rename_exclusively(source, target)
    assert (_names(target.parent), source.read_bytes()) == ({"fox.jpg", "hen.jpg"}, b"fox")


@pytest.mark.parametrize("lacks", ["note", "emptiness", "nothing", "file system"])
def test_only_an_empty_file_with_a_note_of_this_rename_is_taken_for_its_reservation(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    target.write_bytes(b"x" if lacks == "emptiness" else b"")
    note = exclusive_rename._reservation_note(source, target)
    if lacks != "note":
        note.touch()
    if lacks == "file system":
        monkeypatch.setattr(os, "rename", raising(errno.EXDEV))

    assert finish_interrupted(source, target) is (lacks == "nothing")

    left = {"nothing": {"hen.jpg"}, "note": {"fox.jpg", "hen.jpg"}, "file system": {"fox.jpg", note.name}}
    assert _names(target.parent) == left.get(lacks, {"fox.jpg", "hen.jpg", note.name})


def test_a_note_of_another_rename_reserves_nothing(source: Path, target: Path) -> None:
    other = source.with_name("owl.jpg")
    notes = {exclusive_rename._reservation_note(*pair) for pair in ((source, target), (other, target), (source, other))}
    assert len(notes) == 3
    target.touch()
    exclusive_rename._reservation_note(other, target).touch()
    assert not finish_interrupted(source, target)
    assert source.exists()


def test_the_second_name_of_a_file_is_finished_and_two_links_of_a_folder_or_device_are_not(
    source: Path, target: Path
) -> None:
    assert not finish_interrupted(source, target)
    os.link(source, target)
    assert finish_interrupted(source, target)
    assert (_names(target.parent), target.read_bytes()) == ({"hen.jpg"}, b"fox")
    assert not finish_interrupted(source, target)
    os.mkfifo(source)
    pipe = source.with_name("pipe")
    os.link(source, pipe)
    assert not finish_interrupted(source, pipe)
    assert source.exists()


def test_files_made_for_a_rename_are_for_the_owner_alone(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    rename = os.rename

    def look(before: object, after: object) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in target.parent.iterdir() if path != source)
        rename(before, after)  # type: ignore[arg-type]

    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    monkeypatch.setattr(os, "link", raising(errno.EPERM))
    monkeypatch.setattr(os, "rename", look)
    rename_exclusively(source, target)
    assert modes == [0o600, 0o600]


def test_a_file_with_a_third_name_keeps_that_one(source: Path, target: Path) -> None:
    third = source.with_name("owl.jpg")
    for name in (target, third):
        os.link(source, name)
    assert finish_interrupted(source, target)
    assert _names(target.parent) == {"hen.jpg", "owl.jpg"}


def test_a_link_gets_a_new_name_and_not_what_it_leads_to(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = source.with_name("link.jpg")
    link.symlink_to(source)
    monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    rename_exclusively(link, target)
    assert (target.is_symlink(), _names(target.parent)) == (True, {"fox.jpg", "hen.jpg"})


def test_the_one_step_of_linux_is_used_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    is_there = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "renameat2")
    assert (exclusive_rename._renameat2 is not None) == is_there
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exclusive_rename._load_renameat2() is None
