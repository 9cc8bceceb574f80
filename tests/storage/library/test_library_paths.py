import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage.library.errors import FolderMissing, LibraryUnavailable, UnsafePath
from storage.library.naming.ignored_names import IgnoredNames
from storage.library.paths import Library, ProjectFolder
from storage.library.scan import list_names, scan

NAMES = st.text(st.characters(exclude_categories=())) | st.text("./\\\0~a ", max_size=9)


def test_paths_follow_the_layout(tmp_path: Path) -> None:
    project = Library(tmp_path).project("user_0", "Iceland")
    assert project.path == tmp_path / "user_0" / "Iceland"
    assert project.original("IMG.v2.jpg") == project.path / "IMG.v2.jpg"
    assert project.thumbnail("IMG.v2") == project.path / ".thumb" / "IMG.v2.webp"
    assert project.preview_image("IMG.v2") == project.path / ".preview" / "IMG.v2.webp"
    assert project.trash == project.path / ".trash"
    assert project.manifest_path == project.path / ".project.yaml"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tenant=NAMES, folder=NAMES, name=NAMES)
@example(tenant="..", folder="..", name="..")
@example(tenant="t", folder="p", name="../q/x.jpg")
@example(tenant="t", folder="p", name="/etc/passwd")
def test_no_text_leads_out_of_the_project(tmp_path: Path, tenant: str, folder: str, name: str) -> None:
    library = Library(tmp_path)
    for build in (ProjectFolder.original, ProjectFolder.thumbnail, ProjectFolder.preview_image):
        try:
            project = library.project(tenant, folder)
            path = build(project, name)
        except UnsafePath:
            continue
        assert os.path.normpath(path) == str(path)
        assert project.path.parent.parent == tmp_path
        assert path.parent in {project.path, project.path / ".thumb", project.path / ".preview"}
        assert not os.path.lexists(path)


def test_a_derivative_of_a_long_name_has_a_short_one_of_its_own(project: ProjectFolder) -> None:
    longest = project.thumbnail("x" * 250)
    assert longest.name == "x" * 250 + ".webp"
    names = {project.thumbnail("x" * length).name for length in (251, 252, 255)} | {project.thumbnail("é" * 127).name}
    assert len(names) == 4
    for name in names:
        assert len(name.encode()) <= 255
        assert name.removesuffix(".webp")[:100] in ("x" * 100, "é" * 100)
    with pytest.raises(UnsafePath, match="longer than 255 bytes"):
        project.thumbnail("x" * 256)


@pytest.mark.parametrize("place", ["tenant", "tenant/Iceland"])
def test_a_symlinked_tenant_or_project_is_refused(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    (outside / "Iceland").mkdir(parents=True)
    link = tmp_path / "library" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside if place == "tenant" else outside / "Iceland")
    with pytest.raises(UnsafePath, match="symbolic link"):
        Library(tmp_path / "library").project("tenant", "Iceland")


@pytest.mark.parametrize(
    ("hidden", "build"),
    [
        (".thumb", lambda project: project.thumbnail("a")),
        (".preview", lambda project: project.preview_image("a")),
        (".trash", lambda project: project.trash),
    ],
)
def test_a_hidden_folder_replaced_by_a_symlink_is_refused(
    library: Library, tmp_path: Path, hidden: str, build: Callable[[ProjectFolder], Path]
) -> None:
    project = library.project("tenant", "Iceland")
    project.path.mkdir(parents=True)
    (project.path / hidden).symlink_to(tmp_path)
    with pytest.raises(UnsafePath, match="symbolic link"):
        build(project)
    (project.path / hidden).unlink()
    (project.path / hidden).write_text("a file")
    with pytest.raises(UnsafePath, match="not a folder"):
        build(project)


def test_a_symlinked_folder_of_a_long_name_in_the_trash_is_refused(project: ProjectFolder, tmp_path: Path) -> None:
    (project.trash / "mark").mkdir()
    assert project.inside(".trash/mark/a.jpg") == project.trash / "mark" / "a.jpg"
    (project.trash / "mark").rename(project.trash / "other")
    (project.trash / "mark").symlink_to(tmp_path)
    with pytest.raises(UnsafePath, match="symbolic link"):
        project.inside(".trash/mark/a.jpg")


def test_a_photo_that_is_a_symlink_is_refused_even_where_it_dangles(project: ProjectFolder) -> None:
    (project.path / "a.jpg").symlink_to("/nonexistent")
    with pytest.raises(UnsafePath, match="symbolic link"):
        project.original("a.jpg")


def test_a_library_may_itself_be_reached_through_a_symlink(library: Library, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(library.root)
    Library(tmp_path / "link").project("tenant", "Iceland").create()
    assert (library.root / "tenant" / "Iceland" / ".trash").is_dir()


def test_folders_are_listed_without_what_cannot_be_a_project(library: Library, project: ProjectFolder) -> None:
    (project.tenant.path / "note.txt").write_text("")
    (project.tenant.path / ".hidden").mkdir()
    (project.tenant.path / "line\nbreak").mkdir()
    (project.tenant.path / "link").symlink_to(project.path)
    assert list(library.tenant_ids()) == ["tenant"]
    assert list(project.tenant.project_folders()) == ["Iceland"]


def test_a_library_without_its_disk_is_unavailable(tmp_path: Path) -> None:
    library = Library(tmp_path / "mount")
    with pytest.raises(LibraryUnavailable, match="missing or empty"):
        library.check_available()
    with pytest.raises(LibraryUnavailable, match="Mount its disk"):
        library.project("tenant", "Iceland").create()
    (tmp_path / "mount" / "lost+found").mkdir(parents=True)
    (tmp_path / "mount" / ".marker").mkdir()
    (tmp_path / "mount" / "README").write_text("disk not mounted")
    with pytest.raises(LibraryUnavailable):
        library.check_available()
    (tmp_path / "mount" / "tenant").mkdir()
    library.check_available()


def test_folders_are_made_inside_a_project_but_never_the_project_itself(
    library: Library, project: ProjectFolder
) -> None:
    library.make_folder(project.path)
    library.make_folder(project.path / "CaptureOne" / "Settings")
    library.make_folder(project.path / "CaptureOne" / "Settings")
    assert (project.path / "CaptureOne" / "Settings").is_dir()
    project.path.rename(project.path.with_name("Iceland 2024"))
    for missing in (project.path, project.trash, project.path / "CaptureOne" / "Settings"):
        with pytest.raises(FolderMissing, match="rename it back"):
            library.make_folder(missing)
    with pytest.raises(FolderMissing):
        project.create_hidden_folders()
    assert list(project.tenant.project_folders()) == ["Iceland 2024"]


def test_a_root_that_cannot_be_read_is_unavailable_rather_than_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryUnavailable, match="cannot be read"):
        Library(tmp_path).is_missing_or_empty(tmp_path / "file")

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(LibraryUnavailable, match="Permission denied"):
        Library(tmp_path).check_available()
    with pytest.raises(LibraryUnavailable, match="Permission denied"):
        list(Library(tmp_path).tenant_ids())


SYSTEM_NAMES = ("#recycle", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".Trash-1000", "._IMG")


def test_folders_of_storage_systems_are_neither_tenants_nor_projects_nor_photos(
    library: Library, project: ProjectFolder
) -> None:
    for place in (library.root, project.tenant.path, project.path):
        for name in SYSTEM_NAMES:
            (place / name).mkdir()
    for name in ("Thumbs.db", "DESKTOP.INI", "._IMG.jpg", "IMG.jpg"):
        (project.path / name).write_bytes(b"1")
    assert list(library.tenant_ids()) == ["tenant"]
    assert list(project.tenant.project_folders()) == ["Iceland"]
    [listed] = list_names(project)
    assert (listed.names, listed.odd) == (["IMG.jpg"], [])
    assert [file.name for file in scan(project) if not file.is_hidden] == ["IMG.jpg"]


@pytest.mark.parametrize(
    ("name", "is_ignored"), [("Backup.old", True), ("backup.OLD", True), ("Backup", False), ("#recycle", False)]
)
def test_which_names_are_ignored_is_a_setting(name: str, is_ignored: bool) -> None:
    assert (name in IgnoredNames(["*.old"])) is is_ignored
