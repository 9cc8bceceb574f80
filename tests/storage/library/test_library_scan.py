import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.library.errors import FolderMissing, FolderUnreadable, UnsafePath
from storage.library.naming.kinds import FileKind
from storage.library.paths import Library, ProjectFolder
from storage.library.scan import ScannedFile, scan, scan_companion_folders


def scanned(project: ProjectFolder) -> dict[str, ScannedFile]:
    return {file.name: file for file in scan(project)}


def test_a_scan_tells_name_kind_size_and_time_of_each_file(project: ProjectFolder) -> None:
    path = project.path / "IMG_1.JPG"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    (project.path / "IMG_1.jpg.xmp").write_text("<x/>")
    project.manifest_path.write_text("")
    files = scanned(project)
    assert files["IMG_1.JPG"] == ScannedFile(
        "IMG_1.JPG", "IMG_1", "jpg", FileKind.JPG, 5, 1_700_000_000_123_456_789, None, path.stat().st_ctime_ns
    )
    assert files["IMG_1.jpg.xmp"].kind is FileKind.SIDECAR
    assert {name for name, file in files.items() if file.is_hidden} == {".thumb", ".preview", ".trash", ".project.yaml"}


def test_entries_that_are_no_regular_files_are_reported_and_not_opened(
    project: ProjectFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.jpg").write_bytes(b"x")
    (project.path / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (project.path / "dangling.jpg").symlink_to("/nonexistent")
    (project.path / "folder.jpg").mkdir()
    os.mkfifo(project.path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        # The path of a socket has room for 107 bytes, and the folder's may have more.
        monkeypatch.chdir(project.path)
        server.bind("s.jpg")
        problems = {name: file.problem for name, file in scanned(project).items() if not file.is_hidden}
    assert problems == {
        "link.jpg": "symlink",
        "dangling.jpg": "symlink",
        "folder.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
        "s.jpg": "not a regular file",
    }


def test_names_that_nothing_can_hold_are_reported_in_a_printable_form(project: ProjectFolder) -> None:
    for raw in (b"latin-\xe9.jpg", b"two\nlines.jpg", b"back\\slash.jpg"):
        (project.path / os.fsdecode(raw)).write_bytes(b"x")
    found = {file.printable_name: file.problem for file in scan(project) if not file.is_hidden}
    assert found == {
        r"'latin-\udce9.jpg'": "undecodable name",
        r"'two\nlines.jpg'": "name with control characters",
        "back\\slash.jpg": "unsafe name",
    }


def test_what_a_scan_gives_without_a_problem_has_a_path(project: ProjectFolder) -> None:
    for number in range(0, 0x3000, 7):
        character = chr(number)
        if character not in "/\0":
            (project.path / f"x{character}.jpg").write_bytes(b"")
    for file in scan(project):
        if file.is_hidden:
            continue
        if file.problem is None:
            project.original(file.name)
        else:
            with pytest.raises(UnsafePath):
                project.original(file.name)


class _Entry:
    def __init__(self, entry: os.DirEntry[str], error: OSError) -> None:
        self.name, self.error = entry.name, error

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise self.error


def test_a_file_that_cannot_be_looked_at_is_reported_but_one_that_vanished_is_not(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("broken.jpg", "gone.jpg", "good.jpg"):
        (project.path / name).write_bytes(b"x")
    errors = {"broken.jpg": OSError(5, "Input/output error"), "gone.jpg": FileNotFoundError(2, "gone")}
    with os.scandir(project.path) as real:
        entries = [_Entry(entry, errors[entry.name]) if entry.name in errors else entry for entry in real]

    class Scan:
        def __enter__(self) -> list[object]:
            return entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", lambda path: Scan())
    problems = {file.name: file.problem for file in scan(project) if not file.is_hidden}
    assert problems == {"broken.jpg": "unreadable", "good.jpg": None}


def test_a_folder_that_breaks_off_in_the_middle_is_an_error_and_not_a_short_list(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scan:
        def __enter__(self) -> "Scan":
            return self

        def __exit__(self, *_: object) -> None: ...

        def __iter__(self) -> "Scan":
            return self

        def __next__(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", lambda path: Scan())
    with pytest.raises(FolderUnreadable, match="completely"):
        list(scan(project))


@pytest.mark.parametrize("calls", [("scandir",), ("stat", "lstat")], ids=["contents", "kind"])
@pytest.mark.parametrize("folder", ["CaptureOne", "CaptureOne/Settings166"])
def test_a_folder_of_companions_that_cannot_be_read_is_an_error_and_not_an_empty_one(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, folder: str, calls: tuple[str, ...]
) -> None:
    (project.path / folder).mkdir(parents=True)

    def refusing(original: Callable[..., object]) -> Callable[..., object]:
        def call(path: str | Path, **more: object) -> object:
            if os.fspath(path) == str(project.path / folder):
                raise PermissionError(13, "Permission denied")
            return original(path, **more)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    with pytest.raises(FolderUnreadable, match=folder):
        list(scan_companion_folders(project, is_wanted=lambda _: True))


def test_a_missing_or_replaced_folder_is_an_error(library: Library, project: ProjectFolder, tmp_path: Path) -> None:
    with pytest.raises(FolderMissing):
        list(scan(library.project("tenant", "Nowhere")))
    moved = project.path.rename(tmp_path / "moved")
    project.path.symlink_to(moved)
    with pytest.raises(UnsafePath):
        list(scan(project))


_MEASURED_SCAN = """
import sys, tracemalloc
from pathlib import Path
from storage.library.paths import Library
from storage.library.scan import scan

project = Library(Path(sys.argv[1])).project("tenant", "Iceland")
tracemalloc.start()
count = sum(1 for _ in scan(project))
print(count, tracemalloc.get_traced_memory()[1])
"""


def test_a_scan_streams(project: ProjectFolder) -> None:
    for number in range(3000):
        (project.path / f"IMG_{number:05}.jpg").touch()
    # In a process of its own: threads that other tests left in this one would be counted as well.
    scanning = [sys.executable, "-c", _MEASURED_SCAN, str(project.tenant.library.root)]
    count, peak_bytes = map(int, subprocess.run(scanning, check=True, capture_output=True, text=True).stdout.split())
    assert count == 3003
    assert peak_bytes < 100_000


def test_a_scan_may_be_left_early(project: ProjectFolder) -> None:
    for number in range(10):
        (project.path / f"{number}.jpg").touch()
    assert len(list(itertools.islice(scan(project), 2))) == 2
