import os
from pathlib import Path

import pytest

from storage.library.atomic_write import (
    new_temporary_token,
    remove_stale_temporaries,
    remove_temporary,
    temporary_path,
    write_atomically,
)
from storage.library.errors import FolderMissing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    write_atomically(path, b"old")
    write_atomically(path, lambda temporary: temporary.write_bytes(b"new"))
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.webp"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_whatever_fails_the_old_file_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a.webp": b"old"}


def test_a_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def half(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.webp", half)
    assert list(tmp_path.iterdir()) == []


def test_dying_at_any_point_shows_the_old_or_the_new_file(tmp_path: Path, crash_points) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"old")
    deaths = 0
    for _ in crash_points(lambda: write_atomically(path, b"new")):
        deaths += 1
        assert path.read_bytes() == b"old"
        remove_stale_temporaries(tmp_path, older_than_seconds=-1)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.webp"]
    assert deaths >= 4
    assert path.read_bytes() == b"new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderMissing, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a.webp", b"x")


def test_a_temporary_name_fits_beside_the_longest_name_and_can_be_found_by_its_token(tmp_path: Path) -> None:
    token = new_temporary_token()
    path = temporary_path(tmp_path / ("x" * 250 + ".webp"), token=token)
    path.write_bytes(b"left by a killed process")
    assert path.suffix == ".webp"
    remove_temporary(tmp_path / "anything.webp", token=token)
    remove_temporary(tmp_path / "anything.webp", token=token)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        temporary_path(path, token="../../etc/passwd")


def test_only_old_temporary_files_are_swept_up(tmp_path: Path) -> None:
    stale = temporary_path(tmp_path / "a.webp")
    for path in (stale, tmp_path / "a.webp", tmp_path / ".photojobs-tmp-notes.txt"):
        path.write_bytes(b"x")
    (tmp_path / temporary_path(tmp_path / "b.webp").name).mkdir()
    assert remove_stale_temporaries(tmp_path) == 0
    assert remove_stale_temporaries(tmp_path, older_than_seconds=-1) == 1
    assert not stale.exists()
    assert len(list(tmp_path.iterdir())) == 3
    assert remove_stale_temporaries(tmp_path / "nowhere") == 0
