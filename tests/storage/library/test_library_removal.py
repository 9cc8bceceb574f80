import os
from dataclasses import replace
from pathlib import Path

import pytest

from storage.library import exclusive_rename, removal
from storage.library.errors import CrossesFileSystems, UnsafePath
from storage.library.mounts import Mount
from storage.library.paths import Library, ProjectFolder
from storage.library.removal import remove_project_folder
from tests.storage.library.conftest import WithBindMount, WithOverlay


def fill(project: ProjectFolder, outside: Path) -> None:
    project.create()
    (project.path / "a.jpg").write_bytes(b"x")
    (project.trash / "old").mkdir()
    (project.trash / "old" / "b.jpg").write_bytes(b"x")
    (project.path / "link").symlink_to(outside)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "keep.jpg").write_bytes(b"keep")
    return folder


@pytest.mark.parametrize("kind", ["renameat2", "no renameat2"])
def test_a_project_folder_goes_with_all_in_it_and_nothing_else(
    kind: str, project: ProjectFolder, other_project: ProjectFolder, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "renameat2":
        monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    fill(project, outside)
    assert remove_project_folder(project) is True
    assert os.listdir(project.tenant.path) == ["Norway"]
    assert (outside / "keep.jpg").exists()
    assert remove_project_folder(project) is False


def test_a_project_of_a_missing_tenant_is_gone_already(library: Library) -> None:
    assert remove_project_folder(library.project("nobody", "Iceland")) is False


def test_a_removal_that_dies_at_any_point_goes_on_where_it_stopped(
    project: ProjectFolder, other_project: ProjectFolder, outside: Path, crash_points
) -> None:
    fill(project, outside)
    deaths = 0
    for _ in crash_points(lambda: remove_project_folder(project)):
        deaths += 1
        assert list(project.tenant.project_folders()) in (["Norway"], ["Norway", "Iceland"], ["Iceland", "Norway"])
        remove_project_folder(project)
        assert os.listdir(project.tenant.path) == ["Norway"]
        fill(project, outside)
    assert deaths >= 8
    assert os.listdir(project.tenant.path) == ["Norway"]
    assert (outside / "keep.jpg").exists()


def test_a_leftover_of_one_project_is_not_taken_for_that_of_another(
    project: ProjectFolder, other_project: ProjectFolder, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(project, outside)
    with monkeypatch.context() as patch:

        def die(path: Path) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr(removal, "remove_tree", die)
        with pytest.raises(OSError, match="Input/output"):
            remove_project_folder(project)
    assert list(project.tenant.project_folders()) == ["Norway"]
    remove_project_folder(other_project)
    assert len(os.listdir(project.tenant.path)) == 1
    remove_project_folder(project)
    assert os.listdir(project.tenant.path) == []


def test_a_symlink_in_the_place_of_the_folder_is_refused(project: ProjectFolder, outside: Path) -> None:
    for folder in (project.preview, project.thumb, project.trash, project.path):
        folder.rmdir()
    project.path.symlink_to(outside)
    with pytest.raises(UnsafePath):
        remove_project_folder(project)
    assert (outside / "keep.jpg").exists()


def test_a_path_that_is_no_direct_child_of_its_tenant_is_refused(project: ProjectFolder) -> None:
    for path in (project.tenant.path, project.path / ".trash", project.library.root):
        with pytest.raises(UnsafePath):
            remove_project_folder(replace(project, path=path))
    assert project.trash.is_dir()


def test_what_is_mounted_in_the_folder_is_not_entered(
    project: ProjectFolder, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(project, outside)
    mounted = (project.trash / "old").stat().st_ino
    mount_of = removal.mount_of_descriptor

    def fake(descriptor: int) -> Mount:
        return (-1, 0) if os.fstat(descriptor).st_ino == mounted else mount_of(descriptor)

    monkeypatch.setattr(removal, "mount_of_descriptor", fake)
    with pytest.raises(CrossesFileSystems, match="mounted"):
        remove_project_folder(project)
    monkeypatch.undo()
    [hidden] = project.tenant.path.glob(".photojobs-removing-*")
    assert (hidden / ".trash" / "old" / "b.jpg").exists()


@pytest.mark.parametrize("place", [".trash/old", "."])
def test_a_folder_of_the_same_disk_that_is_mounted_in_the_project_or_as_the_project_is_not_entered(
    project: ProjectFolder, outside: Path, with_bind_mount: WithBindMount, place: str
) -> None:
    fill(project, outside)

    def remove() -> None:
        with pytest.raises(CrossesFileSystems, match="mount"):
            remove_project_folder(project)

    with_bind_mount(outside, project.path / place, remove)
    assert (outside / "keep.jpg").read_bytes() == b"keep"


def test_a_project_in_a_lower_layer_of_an_overlay_goes_too(
    library: Library, project: ProjectFolder, outside: Path, with_overlay: WithOverlay
) -> None:
    fill(project, outside)

    def remove() -> None:
        assert remove_project_folder(project) is True
        assert os.listdir(project.tenant.path) == []
        assert remove_project_folder(project) is False

    with_overlay(library.root, remove)
