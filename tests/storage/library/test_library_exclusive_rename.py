"""A rename that overwrites nothing compares the two names before it begins."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from storage.library import exclusive_rename
from storage.library.exclusive_rename import _are_two_entries, are_on_one_file_system


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, a file system of its own")
def test_a_rename_leads_only_to_names_of_the_same_file_system(tmp_path: Path) -> None:
    (tmp_path / "fox.jpg").touch()

    assert are_on_one_file_system(tmp_path / "fox.jpg", tmp_path / "hen.jpg")
    # Whichever of them has the higher number.
    assert not are_on_one_file_system(Path("/proc/version"), tmp_path / "hen.jpg")
    assert not are_on_one_file_system(tmp_path / "fox.jpg", Path("/proc/hen.jpg"))


def test_two_hard_links_are_two_entries_and_two_spellings_of_one_name_are_not(tmp_path: Path) -> None:
    (tmp_path / "fox.jpg").touch()
    # On a file system that ignores case, `FOX.jpg` reaches this entry, and no other is listed.
    assert not _are_two_entries(tmp_path / "fox.jpg", tmp_path / "FOX.jpg")

    os.link(tmp_path / "fox.jpg", tmp_path / "hen.jpg")
    assert _are_two_entries(tmp_path / "fox.jpg", tmp_path / "hen.jpg")
    (tmp_path / "other").mkdir()
    assert _are_two_entries(tmp_path / "fox.jpg", tmp_path / "other" / "fox.jpg")


def test_the_only_entry_of_a_file_is_never_unlinked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "fox.jpg").write_bytes(b"fox")
    (tmp_path / "other way").symlink_to(folder)
    # As if both were listed, on a file system that is wrong about it.
    monkeypatch.setattr(exclusive_rename, "_are_two_entries", lambda source, target: True)

    assert not exclusive_rename.finish_interrupted(folder / "fox.jpg", tmp_path / "other way" / "fox.jpg")

    assert (folder / "fox.jpg").read_bytes() == b"fox"


@pytest.mark.parametrize("file_system", ["neither"], indirect=True)
def test_a_reservation_is_noted_through_no_link(file_system: str, tmp_path: Path) -> None:
    source, target, elsewhere = tmp_path / "fox.jpg", tmp_path / "hen.jpg", tmp_path / "elsewhere"
    source.write_bytes(b"fox")
    exclusive_rename._reservation_note(source, target).symlink_to(elsewhere)

    with pytest.raises(OSError, match="symbolic links"):
        exclusive_rename.rename_exclusively(source, target)

    assert not elsewhere.exists()
    assert not target.exists()
    assert source.read_bytes() == b"fox"


@pytest.mark.parametrize("file_system", ["renameat2", "hard links"], indirect=True)
def test_no_name_is_reserved_where_the_disk_can_do_better(
    file_system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fox.jpg").write_bytes(b"fox")
    monkeypatch.setattr(exclusive_rename, "_reserve_and_rename", None)

    exclusive_rename.rename_exclusively(tmp_path / "fox.jpg", tmp_path / "hen.jpg")

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"hen.jpg": b"fox"}
