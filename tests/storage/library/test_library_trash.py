import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from storage.library import trash
from storage.library.errors import FolderUnreadable, SourceMissing, UnsafePath
from storage.library.paths import ProjectFolder
from storage.library.transfer import move_without_overwrite
from storage.library.trash import (
    TrashEntry,
    expired,
    list_trash,
    move_to_trash,
    parse_trash_name,
    purge,
    remove_wrapping,
)

NOON = datetime(2025, 10, 1, 12, 0, 0, 123_000, tzinfo=UTC)
DAY = 24 * 3600.0


def put(project: ProjectFolder, name: str, content: bytes = b"picture") -> Path:
    path = project.path / name
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("file_system")
def test_the_trash_name_tells_the_moment_and_the_old_name(project: ProjectFolder) -> None:
    trashed = move_to_trash(project, put(project, "Ö 1.jpg"), at=NOON.astimezone(timezone(timedelta(hours=2))))
    assert trashed.parent == project.trash
    assert trashed.read_bytes() == b"picture"
    parsed = parse_trash_name(trashed.name)
    assert parsed is not None
    assert (parsed.original_name, parsed.trashed_at) == ("Ö 1.jpg", NOON)


def test_the_same_name_in_the_same_millisecond_overwrites_nothing(project: ProjectFolder) -> None:
    for number in range(20):
        move_to_trash(project, put(project, "a.jpg", str(number).encode()), at=NOON)
    assert {entry.path.read_bytes() for entry in list_trash(project)} == {str(n).encode() for n in range(20)}


# The second limit is that of folders that eCryptfs encrypts, as a NAS does.
@pytest.mark.parametrize("limit", [255, 143])
def test_a_name_without_room_for_a_stamp_is_kept_whole(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(os, "pathconf", lambda *_: limit)
    name = "ö" * (limit // 2 - 2) + ".jpg"
    trashed = move_to_trash(project, put(project, name), at=NOON)
    assert max(len(part.encode()) for part in trashed.parts) <= limit
    [entry] = list_trash(project)
    assert (entry.original_name, entry.trashed_at) == (name, NOON)
    move_without_overwrite(trashed, project.original(name))
    remove_wrapping(trashed)
    assert list(list_trash(project)) == []
    assert project.original(name).read_bytes() == b"picture"


def test_a_missing_trash_is_made_and_an_empty_one_is_no_error(project: ProjectFolder) -> None:
    project.trash.rmdir()
    assert list(expired(project, now=NOON, ttl_seconds=0)) == []
    assert move_to_trash(project, put(project, "a.jpg"), at=NOON).exists()


def test_only_what_lay_longer_than_the_time_to_live_is_due(project: ProjectFolder) -> None:
    old = move_to_trash(project, put(project, "old.jpg"), at=NOON - timedelta(seconds=DAY, milliseconds=1))
    move_to_trash(project, put(project, "young.jpg"), at=NOON - timedelta(seconds=DAY))
    move_to_trash(project, put(project, "future.jpg"), at=NOON + timedelta(days=400))
    os.utime(old, ns=(0, 10**18 * 5))
    assert [entry.original_name for entry in expired(project, now=NOON, ttl_seconds=DAY)] == ["old.jpg"]


def test_what_others_put_there_is_due_by_its_change_of_status(project: ProjectFolder) -> None:
    foreign = project.trash / "20259999T999999.000Z_0123456789ab_a.jpg"
    foreign.write_bytes(b"x")
    os.utime(foreign, ns=(0, 0))
    now = datetime.fromtimestamp(foreign.lstat().st_ctime, UTC)
    assert list(expired(project, now=now + timedelta(seconds=59), ttl_seconds=60)) == []
    [entry] = expired(project, now=now + timedelta(seconds=61), ttl_seconds=60)
    assert entry.original_name == foreign.name


def test_purging_removes_folders_and_links_but_never_what_links_lead_to(project: ProjectFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.jpg").write_bytes(b"keep")
    folder = project.trash / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "a.jpg").write_bytes(b"x")
    (folder / "link").symlink_to(outside)
    (project.trash / "link").symlink_to(outside)
    os.mkfifo(project.trash / "pipe")
    for entry in list(list_trash(project)):
        purge(entry)
        purge(entry)
    assert list(project.trash.iterdir()) == []
    assert (outside / "keep.jpg").read_bytes() == b"keep"


@pytest.mark.parametrize("name", ["..", ".", "", "../a.jpg", "/etc/hostname", "a/../../a.jpg", "x\0"])
def test_nothing_outside_the_trash_can_be_purged(project: ProjectFolder, name: str) -> None:
    original = put(project, "a.jpg")
    with pytest.raises(UnsafePath):
        purge(TrashEntry(project, name, name, NOON))
    assert original.exists()


def test_nothing_is_listed_or_purged_through_a_symlinked_trash(project: ProjectFolder) -> None:
    original = put(project, "a.jpg")
    [entry] = [TrashEntry(project, "a.jpg", "a.jpg", NOON)]
    project.trash.rmdir()
    (project.path / ".trash").symlink_to(project.path)
    with pytest.raises(UnsafePath):
        purge(entry)
    with pytest.raises(UnsafePath):
        list(list_trash(project))
    with pytest.raises(UnsafePath):
        move_to_trash(project, original, at=NOON)
    assert original.exists()


def test_only_files_directly_in_the_project_go_to_its_trash(
    project: ProjectFolder, other_project: ProjectFolder
) -> None:
    foreign = put(other_project, "a.jpg")
    (project.path / "folder").mkdir()
    for path in (foreign, project.path / "folder", project.path / ".." / "Norway" / "a.jpg", project.path):
        with pytest.raises(UnsafePath):
            move_to_trash(project, path, at=NOON)
    with pytest.raises(SourceMissing):
        move_to_trash(project, project.original("gone.jpg"), at=NOON)
    with pytest.raises(ValueError, match="aware"):
        move_to_trash(project, foreign, at=datetime(2025, 1, 1))
    assert foreign.exists()


@pytest.mark.usefixtures("file_system")
def test_dying_on_the_way_to_the_trash_loses_nothing(project: ProjectFolder, crash_points) -> None:
    original = put(project, "a.jpg")
    for _ in crash_points(lambda: move_to_trash(project, original, at=NOON)):
        if original.exists():
            move_to_trash(project, original, at=NOON)
        found = [entry for entry in list_trash(project) if entry.original_name == "a.jpg"]
        assert b"picture" in {entry.path.read_bytes() for entry in found}
        for entry in list(list_trash(project)):
            purge(entry)
        put(project, "a.jpg")
    assert not original.exists()


def test_a_trash_that_cannot_be_listed_is_an_error(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trash.os, "scandir", refuse)
    with pytest.raises(FolderUnreadable, match="Permission denied"):
        list(expired(project, now=NOON, ttl_seconds=0))
