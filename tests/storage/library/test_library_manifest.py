import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml

from storage.library.errors import FolderMissing, ManifestUnreadable, UnsafePath
from storage.library.manifest import Manifest, read_manifest, write_manifest
from storage.library.paths import Library, ProjectFolder
from storage.library.trash import list_trash

NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)
ICELAND = Manifest(name="Ísland: Sommer", id=7, created_at="2025-10-01T12:00:00.000Z")


def test_a_manifest_is_read_as_it_was_written(project: ProjectFolder) -> None:
    assert read_manifest(project) is None
    assert write_manifest(project, ICELAND, at=NOON)
    assert read_manifest(project) == ICELAND
    assert yaml.safe_load(project.manifest_path.read_text()) == {
        "name": "Ísland: Sommer",
        "id": 7,
        "created_at": "2025-10-01T12:00:00.000Z",
        "version": "1.0",
    }


@pytest.mark.parametrize("name", ["07", "08", "12e45", "1E3", "0o17", "+.5"])
def test_a_name_of_digits_is_a_text_for_readers_of_each_version_of_yaml(project: ProjectFolder, name: str) -> None:
    write_manifest(project, replace(ICELAND, name=name), at=NOON)
    assert f"name: '{name}'\n" in project.manifest_path.read_text()
    assert read_manifest(project) == replace(ICELAND, name=name)


def test_writing_the_same_again_does_not_touch_the_file(project: ProjectFolder) -> None:
    write_manifest(project, ICELAND, at=NOON)
    before = project.manifest_path.stat()
    assert write_manifest(project, ICELAND, at=NOON) is None
    after = project.manifest_path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_keys_of_others_survive_a_rewrite(project: ProjectFolder) -> None:
    project.manifest_path.write_text(
        "name: Old\nid: 7\ncreated_at: 2025-10-01T14:00:00+02:00\n"
        "cover: IMG_1\nopened: 2024-01-02\nnested: {a: [1, two]}\n"
    )
    old = read_manifest(project)
    assert old is not None
    assert (old.created_at, old.version) == ("2025-10-01T12:00:00.000Z", "1.0")
    before = yaml.safe_load(project.manifest_path.read_text())
    assert write_manifest(project, ICELAND, at=NOON)
    after = yaml.safe_load(project.manifest_path.read_text())
    for key in ("cover", "opened", "nested"):
        assert after[key] == before[key]
    assert after["name"] == "Ísland: Sommer"
    assert write_manifest(project, ICELAND, at=NOON) is None


def test_keys_of_others_survive_where_our_own_are_wrong(project: ProjectFolder) -> None:
    project.manifest_path.write_text("name: 5\ncover: IMG_1\n")
    with pytest.raises(ManifestUnreadable, match="name, id, created_at"):
        read_manifest(project)
    write_manifest(project, ICELAND, at=NOON)
    written = read_manifest(project)
    assert written is not None
    assert written.other == {"cover": "IMG_1"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a list",
        b"just text",
        b"name: [unclosed",
        b"\xff\xfe\x00bad",
        b"{1: 2}",
        b"!!python/object/apply:os.system ['touch /tmp/owned']",
        b"created_at: 2025-99-99T99:99:99Z",
        pytest.param(b"[" * 60_000, id="a very deep list"),
        pytest.param(b"#" * 100_000, id="a very long comment"),
        b"name: a\nid: true\ncreated_at: x\n",
        b"name: a\nid: '7'\ncreated_at: x\n",
    ],
)
def test_a_broken_manifest_is_reported_in_one_line_and_kept_when_it_is_replaced(
    project: ProjectFolder, content: bytes
) -> None:
    project.manifest_path.write_bytes(content)
    with pytest.raises(ManifestUnreadable) as caught:
        read_manifest(project)
    assert "\n" not in str(caught.value)
    assert str(project.manifest_path) in str(caught.value)
    write_manifest(project, ICELAND, at=NOON)
    assert read_manifest(project) == ICELAND
    # Where it was a mapping, its other keys stand in the new manifest; any other contents are kept in the trash.
    assert [entry.original_name for entry in list_trash(project)] in ([".project.yaml"], [])


def test_a_manifest_that_is_no_mapping_goes_to_the_trash(project: ProjectFolder) -> None:
    project.manifest_path.write_text("notes of a user\n")
    write_manifest(project, ICELAND, at=NOON)
    [entry] = list_trash(project)
    assert entry.path.read_text() == "notes of a user\n"


@pytest.mark.parametrize(
    "rest",
    [
        "loop: &a [*a]",
        "a: &a [x]\nb: *a",
        "id: " + ":".join("1" * 20_000),
        "created_at: 0001-01-01T00:00:00+23:00",
        "deep: " + "[" * 40 + "]" * 40,
        "many: [" + "1, " * 5_000 + "]",
    ],
    ids=["a loop", "an alias", "a long number", "a moment before all time", "40 levels", "5,000 values"],
)
def test_a_manifest_beyond_the_bounds_is_reported_and_kept_in_the_trash(project: ProjectFolder, rest: str) -> None:
    lines = {"name": "name: a", "id": "id: 7", "created_at": "created_at: 2025-10-01"} | {rest.partition(":")[0]: rest}
    text = "\n".join(lines.values())
    project.manifest_path.write_text(text)
    with pytest.raises(ManifestUnreadable) as caught:
        read_manifest(project)
    assert str(project.manifest_path) in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(project.manifest_path))
    write_manifest(project, ICELAND, at=NOON)
    assert read_manifest(project) == ICELAND
    assert [entry.path.read_text() for entry in list_trash(project)] in ([text], [])


def test_a_small_manifest_of_nested_aliases_is_refused_before_it_grows(project: ProjectFolder) -> None:
    levels = [f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, 40)]
    project.manifest_path.write_text("\n".join(["name: a", "id: 7", "created_at: x", "a0: &a0 [x]", *levels]))
    with pytest.raises(ManifestUnreadable, match=r"line 5, column 10: an alias is not allowed here"):
        read_manifest(project)
    write_manifest(project, ICELAND, at=NOON)
    assert read_manifest(project) == ICELAND


def test_a_manifest_that_is_a_symlink_or_a_pipe_is_not_followed(project: ProjectFolder) -> None:
    path = project.manifest_path
    path.symlink_to("/etc/hostname")
    with pytest.raises(UnsafePath):
        read_manifest(project)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ManifestUnreadable, match="not a regular file"):
        read_manifest(project)


def test_a_project_without_a_folder_gets_no_manifest(library: Library) -> None:
    with pytest.raises(FolderMissing):
        write_manifest(library.project("tenant", "Nowhere"), ICELAND, at=NOON)


def test_dying_while_writing_leaves_a_whole_manifest(project: ProjectFolder, crash_points) -> None:
    write_manifest(project, ICELAND, at=NOON)
    renamed = Manifest(name="Renamed", id=7, created_at=ICELAND.created_at)
    for _ in crash_points(lambda: write_manifest(project, renamed, at=NOON)):
        assert read_manifest(project) in (ICELAND, renamed)
    assert read_manifest(project) == renamed


def test_a_folder_in_place_of_the_manifest_is_named(project: ProjectFolder) -> None:
    project.manifest_path.mkdir()
    with pytest.raises(ManifestUnreadable, match=r"\.project\.yaml is not a regular file"):
        read_manifest(project)
