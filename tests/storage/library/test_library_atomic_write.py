import os
from pathlib import Path

import pytest

from storage.library import atomic_write
from storage.library.atomic_write import (
    link_new,
    remove_stale_temporaries,
    replacing,
    temporary_path,
    write_atomically,
    write_new,
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


def test_dying_at_any_point_shows_the_old_or_the_new_file(
    tmp_path: Path, crash_points, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_write, "STALE_TEMPORARY_SECONDS", -1)
    path = tmp_path / "a.webp"
    path.write_bytes(b"old")
    deaths = 0
    for _ in crash_points(lambda: write_atomically(path, b"new")):
        deaths += 1
        assert path.read_bytes() == b"old"
        remove_stale_temporaries(tmp_path, content_path=Path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.webp"]
    assert deaths >= 4
    assert path.read_bytes() == b"new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderMissing, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a.webp", b"x")


def test_a_temporary_name_fits_beside_the_longest_name(tmp_path: Path) -> None:
    path = temporary_path(tmp_path / ("x" * 250 + ".webp"))
    path.write_bytes(b"left by a killed process")
    assert path.suffix == ".webp"


def test_several_files_are_flushed_before_the_first_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / name for name in ("a.webp", "b.webp", "c.webp"))
    third.write_bytes(b"old")
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    with replacing(first, second, third) as temporaries:
        write_new(temporaries[first], b"one")
        write_new(temporaries[second], b"two")
        del temporaries[third]
    assert done == ["fsync", "fsync", "replace", "replace"]
    done.clear()
    with replacing(first, second) as temporaries:
        write_new(temporaries[first], b"both")
        link_new(temporaries[second], temporaries[first])
    assert done == ["fsync", "replace", "replace"]
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {
        "a.webp": b"both",
        "b.webp": b"both",
        "c.webp": b"old",
    }


def test_of_several_files_none_is_replaced_if_one_was_not_written(tmp_path: Path) -> None:
    first, second = tmp_path / "a.webp", tmp_path / "b.webp"
    first.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(first, second) as temporaries:
        write_new(temporaries[first], b"new")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a.webp": b"old"}


def test_without_hard_links_the_second_name_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "link", refuse)
    link_new(tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "b").read_bytes() == b"x"


def test_only_old_temporary_files_are_swept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = temporary_path(tmp_path / "a.webp")
    for path in (stale, tmp_path / "a.webp", tmp_path / ".photojobs-tmp-notes.txt"):
        path.write_bytes(b"x")
    (tmp_path / temporary_path(tmp_path / "b.webp").name).mkdir()
    assert remove_stale_temporaries(tmp_path, content_path=Path) == 0
    monkeypatch.setattr(atomic_write, "STALE_TEMPORARY_SECONDS", -1)
    assert remove_stale_temporaries(tmp_path, content_path=Path) == 1
    assert not stale.exists()
    assert len(list(tmp_path.iterdir())) == 3
    assert remove_stale_temporaries(tmp_path / "nowhere", content_path=Path) == 0
