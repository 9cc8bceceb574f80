"""Simulates a power cut at any change of a step: resets library and database to a state that is possible on the disk.

The model is a pessimistic disk. A change of a folder (a name that came, went or changed) is there or not until the
folder is synced, each by itself, except that a later change of the same name needs the earlier one. A file that moved
between two folders may have both names until the old folder is synced, and neither if only the old folder is. A file
that was written and not synced is empty. On SQLite the commits since the last sync are lost, from the end; PostgreSQL
syncs each.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from flows.testing import run_queued_job
from storage import Database, JobsRepository
from storage.database.tables import project_claims
from storage.library import exclusive_rename
from tests.flows.steps.conftest import Death, DeathAt, Deaths, Studio

#: A function that chooses one of the possible states of a disk.
Choice = Callable[[list[str]], str]


@dataclass
class Change:
    """One change of names that a power cut may take back.

    Attributes:
        paths: the changed names; for a rename the old name, then the new name.
        unsynced: the folders that have not been synced since the change.
        undo: undoes the change.
    """

    paths: tuple[str, ...]
    unsynced: set[str]
    undo: Callable[[], None]

    def lose(self, choose: Choice, kept: list[str]) -> None:
        """Undo or keep the change; keep it if a later kept change needs it. Add names of a kept change to `kept`."""
        needed = {path for path in self.paths if any(_overlap(path, later) for later in kept)}
        old, new = self.paths[0], self.paths[-1]
        is_between_folders = _folder(old) != _folder(new) and os.path.isfile(new)  # noqa: PTH113
        states = ["done"]
        if is_between_folders and _folder(old) in self.unsynced and old not in needed:
            states.append("both")
        if is_between_folders and self.unsynced == {_folder(new)} and new not in needed:
            states.append("neither")
        if not needed and self.unsynced == {_folder(path) for path in self.paths}:
            states.append("undone")
        match choose(states):
            case "undone":
                self.undo()
                return
            case "both":
                os.link(new, old)
            case "neither":
                os.unlink(new)  # noqa: PTH108
        kept += self.paths


@dataclass
class PowerCut(DeathAt):
    """Cuts the power at the n-th change of this thread, and records which changes are not on the disk then."""

    number: int
    root: Path
    database: Database
    graveyard: Path
    changes: list[Change] = field(default_factory=list)
    synced: set[int] = field(default_factory=set)
    commits: list[tuple[sqlite3.Connection, bool]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__(self.number)
        self._root = str(self.root)
        self.synced = {path.lstat().st_ino for path in self.root.rglob("*")}
        self.graveyard.mkdir()
        self._remember(is_durable=True)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Record every change that this thread makes during the block, and die at the n-th change."""
        with pytest.MonkeyPatch.context() as patch:
            self._patch_contents(patch)
            self._patch_names(patch)
            begin, sync = Database.begin, Database.sync

            @contextmanager
            def watched_begin(database: Database, **options: Any) -> Iterator[Any]:
                self.point()
                with begin(database) as connection:
                    yield connection
                self._remember(is_durable=False)
                if options.get("durable"):
                    database.sync()

            def watched_sync(database: Database) -> None:
                sync(database)
                with self.lock:
                    if self.commits:
                        self.commits[-1] = (self.commits[-1][0], True)

            patch.setattr(Database, "begin", watched_begin)
            patch.setattr(Database, "sync", watched_sync)
            yield

    def cut(self, seed: int) -> None:
        """Reset library and database to a state that is possible on the disks.

        Seed 0 loses everything that can be lost, 1 only commits of the database, 2 only changes of the library. Other
        seeds lose changes at random.
        """
        chance = random.Random(seed)
        choose: Choice = chance.choice if seed > 2 else itemgetter(0 if seed == 1 else -1)
        kept: list[str] = []
        for change in reversed(self.changes):
            change.lose(choose, kept)
        for path in self.root.rglob("*"):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_ino not in self.synced:
                os.truncate(path, 0)
        if self.commits:
            last_durable = max(number for number, (_, is_durable) in enumerate(self.commits) if is_durable)
            last = {0: last_durable, 1: last_durable, 2: len(self.commits) - 1}
            snapshot, _ = self.commits[last.get(seed, chance.randrange(last_durable, len(self.commits)))]
            with sqlite3.connect(str(self.database.path)) as live:
                snapshot.backup(live)
            live.close()

    def close(self) -> None:
        """Delete the snapshots of the database."""
        for snapshot, _ in self.commits:
            snapshot.close()

    def _remember(self, *, is_durable: bool) -> None:
        path = self.database.path
        if path is None:
            return
        # The heartbeat commits in another thread. An older snapshot must not replace a newer one.
        with self.lock:
            snapshot = sqlite3.connect(":memory:", check_same_thread=False)
            with sqlite3.connect(str(path)) as live:
                live.backup(snapshot)
            live.close()
            self.commits.append((snapshot, is_durable))

    def _patch_names(self, patch: pytest.MonkeyPatch) -> None:
        real = {name: getattr(os, name) for name in ("link", "unlink", "rename", "replace", "mkdir", "rmdir")}

        def bury(path: str) -> str:
            grave = str(self.graveyard / os.urandom(8).hex())
            real["link"](path, grave, follow_symlinks=False)
            return grave

        def rename(source: Any, target: Any, **_: Any) -> None:
            self.point()
            old, new = os.fspath(source), os.fspath(target)
            replaced = bury(new) if os.path.isfile(new) and not os.path.samefile(old, new) else None  # noqa: PTH113,PTH121
            real["rename"](old, new)
            self._note_rename(old, new, replaced, real)

        def renameat2(_old_fd: int, old: bytes, _new_fd: int, new: bytes, flags: int) -> int:
            self.point()
            result = exclusive(_old_fd, old, _new_fd, new, flags)
            if result == 0:
                self._note_rename(os.fsdecode(old), os.fsdecode(new), None, real)
            return int(result)

        def unlink(path: Any, *, dir_fd: int | None = None) -> None:
            self.point()
            name = _absolute(path, dir_fd)
            grave = bury(name) if name.startswith(self._root) else None
            real["unlink"](path, dir_fd=dir_fd)
            if grave is not None:
                self._note((name,), lambda: real["rename"](grave, name))

        def link(source: Any, target: Any, **options: Any) -> None:
            self.point()
            real["link"](source, target, **options)
            self._note((os.fspath(target),), lambda: real["unlink"](target))

        def mkdir(path: Any, mode: int = 0o777, **options: Any) -> None:
            self.point()
            real["mkdir"](path, mode, **options)
            self._note((os.fspath(path),), lambda: real["rmdir"](path))

        def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
            self.point()
            name = _absolute(path, dir_fd)
            real["rmdir"](path, dir_fd=dir_fd)
            self._note((name,), lambda: real["mkdir"](name))

        for name, function in {
            "rename": rename,
            "replace": rename,
            "unlink": unlink,
            "link": link,
            "mkdir": mkdir,
            "rmdir": rmdir,
        }.items():
            patch.setattr(os, name, function)
        exclusive: Any = exclusive_rename._renameat2
        if exclusive is not None:
            patch.setattr(exclusive_rename, "_renameat2", renameat2)

    def _patch_contents(self, patch: pytest.MonkeyPatch) -> None:
        open_file, write, fsync, unlink = os.open, os.write, os.fsync, os.unlink

        def open_or_create(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if not flags & os.O_CREAT:
                return open_file(path, flags, *arguments, **options)
            self.point()
            is_new = not os.path.lexists(path)
            descriptor = open_file(path, flags, *arguments, **options)
            if is_new:
                self._note((os.fspath(path),), lambda: unlink(path))
            return descriptor

        def counted_write(descriptor: int, content: Any) -> int:
            self.point()
            return write(descriptor, content)

        def noted_fsync(descriptor: int) -> None:
            self.point()
            fsync(descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                place = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
                for change in self.changes:
                    change.unsynced.discard(place)
            else:
                self.synced.add(status.st_ino)

        patch.setattr(os, "open", open_or_create)
        patch.setattr(os, "write", counted_write)
        patch.setattr(os, "fsync", noted_fsync)

    def _note_rename(self, old: str, new: str, replaced: str | None, real: dict[str, Any]) -> None:
        def undo() -> None:
            real["rename"](new, old)
            if replaced is not None:
                real["rename"](replaced, new)

        self._note((old, new), undo)

    def _note(self, paths: tuple[str, ...], undo: Callable[[], None]) -> None:
        if all(path.startswith(self._root) for path in paths):
            self.changes.append(Change(paths, {_folder(path) for path in paths}, undo))


def _absolute(path: Any, dir_fd: int | None) -> str:
    return os.fspath(path) if dir_fd is None else f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{path}"  # noqa: PTH115


def _folder(path: str) -> str:
    return os.path.realpath(os.path.dirname(path))  # noqa: PTH120


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


@dataclass
class PowerCuts:
    """Runs the same step again and again on a new library, and cuts the power at each change in turn."""

    studio: Studio
    deaths: Deaths
    tmp_path: Path

    def at(self, number: int, prepare: Callable[[Studio], int], *, seed: int) -> bool:
        """Cut the power at this change, and repeat the job; return False if the step ended before this change."""
        self.deaths._empty()
        job_id = prepare(self.studio)
        graves = self.tmp_path / f"graves-{os.urandom(8).hex()}"
        power = PowerCut(number, self.studio.root, self.studio.database, graves)
        try:
            with power.at_work(), suppress(Death):
                run_queued_job(self.studio.runtime, job_id)
            if not power.is_dead:
                return False
            power.cut(seed)
        finally:
            power.close()
        jobs = JobsRepository(self.studio.database)
        found = jobs.get_by_id(job_id)
        assert found is not None
        if found.status == "running":
            jobs.increment_attempts(job_id)
        if not found.is_final:
            jobs.requeue(job_id)
            with self.studio.database.begin() as connection:
                # Do the same as a rescue: the executor is dead, and its claims on projects end.
                connection.execute(project_claims.delete())
            ended = run_queued_job(self.studio.runtime, job_id)
            assert ended.status == "completed", ended.error_message
        return True
