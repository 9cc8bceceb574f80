"""Fixtures of library tests: a library on disk, kinds of file systems, and processes that die during an operation."""

import ctypes
import errno
import itertools
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.library import exclusive_rename
from storage.library.paths import Library, ProjectFolder

_SYSTEM_CALLS = ("link", "unlink", "rename", "replace", "open", "write", "fsync", "mkdir", "rmdir", "chmod", "utime")
_DIED = 77
_NOT_PERMITTED = 78
_NEW_MOUNTS, _NEW_USERS, _BIND = 0x00020000, 0x10000000, 0x1000

WithBindMount = Callable[[Path, Path, Callable[[], object]], None]
WithOverlay = Callable[[Path, Callable[[], object]], None]
CrashPoints = Callable[[Callable[[], object]], Iterator[int]]
#: The arguments of mount(2); the place is a path.
_Mount = tuple[bytes, Path, bytes | None, int, bytes | None]


def raising(number: int) -> Callable[..., Any]:
    """Return a function that fails with this error of the operating system."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def library(tmp_path: Path) -> Library:
    root = tmp_path / "library"
    root.mkdir()
    return Library(root)


@pytest.fixture
def project(library: Library) -> ProjectFolder:
    folder = library.project("tenant", "Iceland")
    folder.create()
    return folder


@pytest.fixture
def other_project(library: Library) -> ProjectFolder:
    folder = library.project("tenant", "Norway")
    folder.create()
    return folder


@pytest.fixture(params=["renameat2", "hard links", "neither", "two file systems", "two file systems, neither"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the disk behave like a file system with certain abilities; return the name of this kind."""
    kind: str = request.param
    link, rename = os.link, os.rename

    def refuse(number: int, source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))

    def is_across(source: object, target: object) -> bool:
        return "two" in kind and Path(os.fspath(source)).parent != Path(os.fspath(target)).parent

    def checked_link(source: object, target: object, **options: object) -> None:
        if is_across(source, target):
            refuse(errno.EXDEV, source, target)
        if "neither" in kind:
            refuse(errno.EPERM, source, target)
        link(source, target, **options)

    def checked_rename(source: object, target: object) -> None:
        if is_across(source, target):
            refuse(errno.EXDEV, source, target)
        rename(source, target)

    if kind != "renameat2":
        monkeypatch.setattr(exclusive_rename, "_renameat2", None)
    if "two file systems" in kind:
        monkeypatch.setattr(
            exclusive_rename, "are_on_one_file_system", lambda source, target: source.parent == target.parent
        )
    monkeypatch.setattr(os, "link", checked_link)
    monkeypatch.setattr(os, "rename", checked_rename)
    return kind


#: Runs a test that uses `file_system` with folders on two file systems alone.
two_file_systems = pytest.mark.parametrize("file_system", ["two file systems", "two quotas, neither"], indirect=True)


@pytest.fixture
def with_bind_mount() -> WithBindMount:
    """Run an operation in a process that sees a folder at a second place, as a container sees its volumes.

    The arguments are the folder, the second place and the operation. The test is skipped if the system permits no
    mounts.
    """

    def run(folder: Path, place: Path, operation: Callable[[], object]) -> None:
        _run_mounted([(os.fsencode(folder), place, None, _BIND, None)], operation)

    return run


@pytest.fixture
def with_overlay(tmp_path: Path) -> WithOverlay:
    """Run an operation in a process that sees a folder as a container sees a folder of its image.

    All that the folder contains is in the lower layer of an overlay; changes go to an upper layer, and are lost when
    the process ends. The test is skipped if the system permits no mounts.
    """

    def run(folder: Path, operation: Callable[[], object]) -> None:
        layers = tmp_path / "layers"
        layers.mkdir()
        options = f"lowerdir={folder},upperdir={layers}/upper,workdir={layers}/work,userxattr"
        _run_mounted(
            [
                (b"tmpfs", layers, b"tmpfs", 0, None),
                (b"overlay", folder, b"overlay", 0, os.fsencode(options)),
            ],
            operation,
        )

    return run


def _run_mounted(mounts: list[_Mount], operation: Callable[[], object]) -> None:
    child = _fork()
    if child == 0:
        _mount_and_run(mounts, operation)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == _NOT_PERMITTED:
        pytest.skip("the system permits no mounts")
    assert code == 0, f"the operation failed in the child (exit code {code})"


def _mount_and_run(mounts: list[_Mount], operation: Callable[[], object]) -> None:
    try:
        system = ctypes.CDLL(None, use_errno=True)
        user, group = os.getuid(), os.getgid()
        if not hasattr(system, "unshare") or system.unshare(_NEW_MOUNTS | _NEW_USERS) != 0:
            os._exit(_NOT_PERMITTED)
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        for source, place, kind, flags, options in mounts:
            if system.mount(source, os.fsencode(place), kind, flags, options) != 0:
                os._exit(_NOT_PERMITTED)
            if kind == b"tmpfs":
                (place / "upper").mkdir()
                (place / "work").mkdir()
        operation()
    except BaseException:  # noqa: BLE001 - after any error, the child must not continue with the tests.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@pytest.fixture
def crash_points() -> CrashPoints:
    """Run an operation in processes that die just before its first, second, third … change of the disk.

    The iterator yields after each death, so that the caller can check the files and restore them. It ends with the
    first process that completes the operation.
    """

    def points(operation: Callable[[], object]) -> Iterator[int]:
        for number in itertools.count():
            if not _dies_before_call(number, operation):
                return
            yield number

    return points


def _dies_before_call(number: int, operation: Callable[[], object]) -> bool:
    child = _fork()
    if child == 0:
        _run_and_die(number, operation)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, _DIED}, f"the operation failed in the child (exit code {code})"
    return code == _DIED


def _fork() -> int:
    with warnings.catch_warnings():
        # Newer versions of Python warn about a fork beside threads; this child runs only the operation.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run_and_die(number: int, operation: Callable[[], object]) -> None:
    calls = itertools.count()

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(calls) == number:
                os._exit(_DIED)
            return function(*arguments, **options)

        return call

    for name in _SYSTEM_CALLS:
        setattr(os, name, dying(getattr(os, name)))
    if exclusive_rename._renameat2 is not None:
        exclusive_rename._renameat2 = dying(exclusive_rename._renameat2)
    try:
        operation()
    except BaseException:  # noqa: BLE001 - after any error, the child must not continue with the tests.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
