"""No original is lost: random libraries, tasks of built-in definitions, deaths, disk errors and power cuts.

A content may be removed only on request: its time in the trash has passed, or its project is to be deleted. In all
other cases, each content exists after a step as often as before, under some name. A photo's file goes to the trash only
if a user set its keep flag to 0.

The long form: `HYPOTHESIS_PROFILE=full python -m pytest tests/flows/steps/test_nothing_is_lost.py -n 0 --timeout 0`.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from sqlalchemy import select, update

from flows.execution.job_run import run_claimed_job
from flows.imaging.fingerprint import take_fingerprint
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from flows.steps.images.observation import first_seen, with_fingerprint
from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import file_journal, job_items, photos
from storage.library import exclusive_rename
from storage.library.atomic_write import TEMPORARY_PREFIX
from storage.library.manifest import Manifest, write_manifest
from storage.library.paths import ProjectFolder
from storage.library.scan import scan
from storage.library.trash import move_to_trash, parse_trash_name
from storage.photos.originals import OriginalsRepository
from storage.queue.claims import promote_due
from storage.queue.rescue import rescue_stale
from storage.records import Job
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.errors import PhotojobsError
from tests.conftest import ManualClock
from tests.flows.steps.conftest import Death, dying_at, failing_at
from tests.flows.steps.power_cuts import PowerCut

TENANTS = ("ann", "ben")
NAMES = ("fox", "Fox", "owl", "fox_duplicate1")
EXTENSIONS = ("jpg", "JPG", "NEF", "png", "jpg.xmp", "xmp", "mov", "AAE", "jpg.pp3", "jpg.json")
FOLDERS = ("Alps", "alps", "Bay", "Alps 2")
TTL_SECONDS = 86_400
STALE_SECONDS = 600
DEFINITIONS = load_definitions()

#: Errors that no failure of a disk can cause; they show a bug in a handler.
_MISUNDERSTOOD = re.compile(r"(Key|Type|Attribute|Index|Value|Assertion|Runtime|Integrity|Unicode|Lookup)\w*Error:")


@dataclass(frozen=True)
class File:
    """A file of a project before the first task."""

    name: str
    extension: str
    is_picture: bool = False
    #: The number of a content that another tenant or project also has, so that copies exist.
    copy_of: int | None = None


@dataclass(frozen=True)
class Row:
    """The values of a photo's row, which may be wrong."""

    name: str
    jpg: int
    raw: int
    other: int
    keep_jpg: int
    keep_raw: int


@dataclass(frozen=True)
class Folder:
    """A project, a folder, or both."""

    tenant: int
    name: str
    is_project: bool
    has_folder: bool
    manifest: Literal["none", "own", "other", "broken"]
    is_archived: bool
    files: tuple[File, ...]
    rows: tuple[Row, ...]
    #: How many hours ago a file was moved to the trash.
    trashed: tuple[int, ...]


@dataclass(frozen=True)
class Strike:
    """A death, a disk error or a power cut at the n-th change of a job."""

    kind: Literal["death", "error", "power cut"]
    number: int
    #: The seed that chooses which changes a power cut undoes.
    seed: int = 0


@dataclass(frozen=True)
class Action:
    """An action of a user or an executor; numbers choose among the projects and photos that exist at that moment."""

    what: str
    definition: str = "maintenance_global"
    tenant: int = 0
    first: int = 0
    second: int = 0
    strikes: tuple[Strike | None, ...] = ()


_flags = st.sampled_from([0, 1, 1])
_rows = st.builds(
    Row,
    name=st.sampled_from(NAMES),
    jpg=_flags,
    raw=_flags,
    other=st.sampled_from([0, 0, 1]),
    keep_jpg=_flags,
    keep_raw=_flags,
)
_files = st.builds(
    File,
    name=st.sampled_from(NAMES),
    extension=st.sampled_from(EXTENSIONS),
    is_picture=st.booleans(),
    copy_of=st.none() | st.integers(0, 5),
)
_folders = st.builds(
    Folder,
    tenant=st.integers(0, 1),
    name=st.sampled_from(FOLDERS),
    is_project=st.sampled_from([True, True, False]),
    has_folder=st.sampled_from([True, True, True, False]),
    manifest=st.sampled_from(["none", "own", "other", "broken"]),
    is_archived=st.sampled_from([False, False, False, True]),
    files=st.lists(_files, max_size=6, unique_by=lambda file: (file.name, file.extension)).map(tuple),
    rows=st.lists(_rows, max_size=4, unique_by=lambda row: row.name).map(tuple),
    trashed=st.lists(st.sampled_from([1, 23, 25, 100]), max_size=2).map(tuple),
)
_strikes = st.lists(
    st.none()
    | st.builds(
        Strike,
        kind=st.sampled_from(["death", "error", "power cut"]),
        number=st.integers(0, 40),
        seed=st.integers(0, 7),
    ),
    max_size=6,
).map(tuple)
_actions = st.one_of(
    st.builds(
        Action,
        what=st.just("task"),
        definition=st.sampled_from(sorted(DEFINITIONS)),
        tenant=st.integers(0, 1),
        first=st.integers(0, 7),
        second=st.integers(0, 7),
    ),
    st.builds(Action, what=st.just("work"), first=st.integers(0, 12), strikes=_strikes),
    st.builds(
        Action,
        what=st.sampled_from(
            "mark drop drag drag copy wait archive restore rename forget unplug unmount plug".split()  # noqa: SIM905
        ),
        tenant=st.integers(0, 1),
        first=st.integers(0, 7),
        second=st.integers(0, 7),
    ),
)


@dataclass
class World:
    """The library and its users, and the contents that must still exist."""

    runtime: Runtime
    clock: ManualClock
    away: Path
    picture: bytes
    #: How often each content must exist.
    expected: Counter[bytes] = field(default_factory=Counter)
    #: Projects whose deletion was requested.
    unwanted: set[int] = field(default_factory=set)
    #: The photos and kinds whose keep flag a user set to 0.
    marked: set[tuple[int, str]] = field(default_factory=set)
    placed: list[bytes] = field(default_factory=list)
    #: Whether the disk has hard links, which the simulated power cut needs to restore files.
    has_links: bool = True
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def database(self) -> Database:
        return self.runtime.database

    @property
    def root(self) -> Path:
        return self.runtime.library.root

    def build(self, folder: Folder) -> None:
        tenant_id = TENANTS[folder.tenant]
        projects = ProjectsRepository(self.database)
        is_project = folder.is_project and projects.get_by_folder(folder.name, tenant_id=tenant_id) is None
        project = None
        if is_project:
            project = projects.create(project_name=folder.name, project_folder=folder.name, tenant_id=tenant_id)
            ids = PhotosRepository(self.database).create_many(
                {
                    "project_id": project.id,
                    "filename": row.name,
                    "jpg_available": row.jpg,
                    "raw_available": row.raw,
                    "other_available": row.other,
                    "keep_jpg": row.keep_jpg,
                    "keep_raw": row.keep_raw,
                }
                for row in folder.rows
            )
            for photo_id, row in zip(ids, folder.rows, strict=True):
                self.marked |= {(photo_id, kind) for kind in ("jpg", "raw") if not getattr(row, f"keep_{kind}")}
            if folder.is_archived:
                projects.archive(project.id)
                self.unwanted.add(project.id)
        place = self.runtime.library.project(tenant_id, folder.name)
        if not folder.has_folder or place.exists():
            return
        place.create()
        if folder.manifest == "broken":
            (place.path / ".project.yaml").write_bytes(b"\x00: [")
        elif folder.manifest != "none":
            known = project.id if project is not None and folder.manifest == "own" else 1
            write_manifest(
                place, Manifest(name=folder.name, id=known, created_at="2025-01-01T00:00:00.000Z"), at=self.clock()
            )
        for file in folder.files:
            self.drop(place, f"{file.name}.{file.extension}", is_picture=file.is_picture, copy_of=file.copy_of)
        if project is not None:
            self.remember(project.id, place)
        for number, hours in enumerate(folder.trashed):
            name = f"gone{number}.jpg"
            self.drop(place, name)
            move_to_trash(place, place.path / name, at=self.clock() - timedelta(hours=hours))

    def remember(self, project_id: int, place: ProjectFolder) -> None:
        """Store the content hashes of files with a row, as after their thumbnails were made."""
        rows = {photo.filename: photo.id for photo in PhotosRepository(self.database).list_by_project(project_id)}
        OriginalsRepository(self.database).save_many(
            [
                with_fingerprint(
                    first_seen(rows[file.base_name], file), take_fingerprint(place.path / file.name), now=self.clock()
                )
                for file in scan(place)
                if file.base_name in rows and file.kind.is_photo
            ]
        )

    def drop(self, place: ProjectFolder, name: str, *, is_picture: bool = False, copy_of: int | None = None) -> None:
        """Put a file into a folder, unless a file with this name exists."""
        path = place.path / name
        if path.exists() or not place.exists():
            return
        if copy_of is not None and self.placed:
            content = self.placed[copy_of % len(self.placed)]
        else:
            content = (self.picture if is_picture else b"") + f"content {next(self._numbers)}".encode()
        path.write_bytes(content)
        self.placed.append(content)
        self.expected[content] += 1

    def act(self, action: Action) -> None:
        tenant_id = TENANTS[action.tenant]
        projects = ProjectsRepository(self.database)
        mine = projects.list(tenant_id=tenant_id)
        chosen = mine[action.first % len(mine)] if mine else None
        match action.what:
            case "task":
                self.start(action.definition, tenant_id, action.first, action.second)
            case "work":
                self.work(action.first, action.strikes)
            case "wait":
                self.clock.advance(seconds=3600 * (1 + 5 * action.first))
            case "archive" if chosen is not None:
                projects.archive(chosen.id)
                self.unwanted.add(chosen.id)
            case "restore" if chosen is not None:
                projects.restore(chosen.id)
                self.unwanted.discard(chosen.id)
            case "mark" if chosen is not None:
                kind = ("jpg", "raw")[action.second % 2]
                statement = update(photos).where(photos.c.project_id == chosen.id).values({f"keep_{kind}": 0})
                with self.database.begin() as connection:
                    ids = connection.execute(statement.returning(photos.c.id)).scalars().all()
                self.marked |= {(photo_id, kind) for photo_id in ids}
            case "plug":
                for number, folder in enumerate(sorted(self.away.iterdir())):
                    tenant, name, _ = folder.name.split("~")
                    place = self.root / tenant / name
                    if number == action.first % 2 and not (place.exists() and any(place.iterdir())):
                        folder.rename(place)
            case "drop" | "drag" | "copy" | "rename" | "forget" | "unplug" | "unmount":
                self.change_folder(action, tenant_id)
            case _:
                pass

    def change_folder(self, action: Action, tenant_id: str) -> None:
        tenant = self.root / tenant_id
        names = (
            sorted(path.name for path in tenant.iterdir() if not path.name.startswith(".")) if tenant.exists() else []
        )
        if not names:
            return
        name = names[action.first % len(names)]
        if action.what == "drop":
            file = f"{NAMES[action.second % len(NAMES)]}.{EXTENSIONS[action.first % len(EXTENSIONS)]}"
            self.drop(self.runtime.library.project(tenant_id, name), file)
        elif action.what == "rename":
            new = FOLDERS[action.second % len(FOLDERS)]
            if not (tenant / new).exists():
                (tenant / name).rename(tenant / new)
        elif action.what == "forget":
            (tenant / name / ".project.yaml").unlink(missing_ok=True)
        elif action.what in ("drag", "copy"):
            target = tenant / names[action.second % len(names)]
            self.carry(tenant / name, target, NAMES[action.first % len(NAMES)], is_copy=action.what == "copy")
        else:
            (tenant / name).rename(self.away / f"{tenant_id}~{name}~{next(self._numbers)}")
            if action.what == "unmount":
                (tenant / name).mkdir()

    def carry(self, source: Path, target: Path, name: str, *, is_copy: bool) -> None:
        """Move or copy a photo with all its files by hand; within a folder, to another name."""
        new = f"{name} by hand {next(self._numbers)}" if source == target else name
        files = {path: target / (new + path.name[len(name) :]) for path in source.glob(f"{name}.*") if path.is_file()}
        if any(path.exists() for path in files.values()):
            return
        for path, place in files.items():
            if is_copy:
                shutil.copy2(path, place)
                self.expected[path.read_bytes()] += 1
            else:
                path.rename(place)

    def start(self, name: str, tenant_id: str, first: int, second: int) -> None:
        definition = DEFINITIONS[name]
        mine = ProjectsRepository(self.database).list(tenant_id=tenant_id)
        scope = str(definition.scope)
        project = mine[first % len(mine)] if mine else None
        arguments: dict[str, Any] = {}
        if scope == "photo_set":
            with self.database.connect() as connection:
                known = connection.execute(select(photos.c.id).order_by(photos.c.id)).scalars().all()
            arguments["items"] = [
                {"photo_id": photo_id} for number, photo_id in enumerate(known) if number % 3 != second % 4
            ]
            arguments["payload"] = {"force": True} if second % 2 else None
        if scope == "project" or name == "image_move":
            if project is None:
                return
            arguments["project_id"] = project.id
        if name == "undo":
            known_tasks = TasksRepository(self.database).list_newest(tenant_id=tenant_id, limit=8)
            if not known_tasks:
                return
            arguments["payload"] = {"undo": known_tasks[second % len(known_tasks)].id}
        task = new_task(definition, task_id=f"task-{next(self._numbers)}", tenant_id=tenant_id, **arguments)
        with suppress(PhotojobsError):
            TasksRepository(self.database).start(task)

    def work(self, limit: int, strikes: tuple[Strike | None, ...] = ()) -> None:
        """Run waiting jobs; each fault in `strikes` happens in the next one."""
        jobs = JobsRepository(self.database)
        pending = list(strikes)
        for _ in range(limit):
            with self.database.begin() as connection:
                promote_due(connection, now=self.clock())
            job = jobs.claim_next(self.runtime.worker_id)
            if job is None:
                return
            event(job.type)
            self.run(job, pending.pop(0) if pending else None)

    def run(self, job: Job, strike: Strike | None) -> None:
        allowed = self.may_go(job)
        others = {tenant: self.files_of(tenant) for tenant in TENANTS if tenant != job.tenant_id}
        if strike is not None and strike.kind == "power cut" and self.has_links:
            if self.run_into_power_cut(job, strike):
                event(f"power cut in {job.type}")
                self.rescue()
        elif strike is not None and strike.kind != "error":
            with dying_at(strike.number) as death, suppress(Death):
                run_claimed_job(job, self.runtime)
            if death.is_dead:
                event(f"died in {job.type}")
                self.rescue()
        elif strike is not None:
            with failing_at(strike.number):
                run_claimed_job(job, self.runtime)
        else:
            run_claimed_job(job, self.runtime)
        self.check(job, allowed)
        for tenant, before in others.items():
            assert self.files_of(tenant) == before, f"{job.type} of {job.tenant_id} changed files of {tenant}"

    def run_into_power_cut(self, job: Job, strike: Strike) -> bool:
        """Run a job with a power cut; return True if the power was cut before the job ended."""
        power = PowerCut(strike.number, self.root, self.database, self.away.with_name(f"graves {next(self._numbers)}"))
        try:
            with power.at_work(), suppress(Death):
                run_claimed_job(job, self.runtime)
            if power.is_dead:
                power.cut(strike.seed)
            return power.is_dead
        finally:
            power.close()

    def rescue(self) -> None:
        """Do the same as other executors after the executor of a job has sent no heartbeat for long."""
        self.clock.advance(seconds=STALE_SECONDS + 1)
        rescue_stale(self.database, stale_seconds=STALE_SECONDS, max_attempts=5)

    def may_go(self, job: Job) -> Counter[bytes]:
        """Return how often each content may be removed in this run of the job, because a user requested it."""
        tenant = self.root / str(job.tenant_id)
        allowed: Counter[bytes] = Counter()
        if job.type == "trash_maintenance":
            # After a death in the job, the clock moves forward before the job is repeated.
            due = self.clock() - timedelta(seconds=TTL_SECONDS)
            for path in tenant.glob("*/.trash/*"):
                parsed = parse_trash_name(path.name)
                if parsed is not None and parsed.trashed_at < due and path.is_file():
                    allowed[path.read_bytes()] += 1
        elif job.type == "project_stop_processes":
            # This step archives the project, also if it was changed after the request for its deletion.
            self.unwanted.add(int(job.project_id or 0))
        elif job.type in {"project_delete_files", "project_scavenge"}:
            archived = ProjectsRepository(self.database).list(tenant_id=job.tenant_id, archived=True)
            asked_for = {job.project_id} if job.type == "project_delete_files" else self.unwanted
            gone = {project.project_folder for project in archived if project.id in asked_for & self.unwanted}
            for folder in tenant.iterdir() if tenant.is_dir() else ():
                if folder.name in gone or folder.name.startswith(".photojobs-removing-"):
                    allowed.update(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        return allowed

    def files_of(self, tenant: str) -> dict[str, bytes]:
        folder = self.root / tenant
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def found(self, *, at_rest: bool = False) -> Counter[bytes]:
        """Return how often each content is on the disk, without thumbnails and previews."""
        found: Counter[bytes] = Counter()
        for root in (self.root, self.away):
            for path in root.rglob("*"):
                parts = path.relative_to(root).parts
                hidden = path.name.startswith(TEMPORARY_PREFIX) or any("removing" in part for part in parts)
                if path.is_file() and not {".thumb", ".preview"} & set(parts) and not (at_rest and hidden):
                    found[path.read_bytes()] += 1
        return found

    def check(self, job: Job, allowed: Counter[bytes]) -> None:
        found = self.found()
        for content, count in list(self.expected.items()):
            missing = count - found[content]
            if missing > 0:
                assert missing <= allowed[content], f"{job.type} lost {content[-20:]!r}"
                self.expected[content] -= missing
        now = JobsRepository(self.database).get_by_id(job.id)
        trashed = select(file_journal.c.photo_id, file_journal.c.source).where(
            file_journal.c.job_id == job.id, file_journal.c.action == "trashed", file_journal.c.photo_id.is_not(None)
        )
        with self.database.connect() as connection:
            for photo_id, source in connection.execute(trashed):
                kind = str(self.runtime.library.accepted_extensions.describe(source.rpartition("/")[2]).kind)
                assert kind not in ("jpg", "raw") or (photo_id, kind) in self.marked, f"{job.type} removed {source}"
            items = connection.execute(select(job_items.c.message).where(job_items.c.job_id == job.id)).scalars().all()
        for message in (now.error_message if now is not None else None, *items):
            assert not _MISUNDERSTOOD.search(message or ""), f"{job.type}: {message}"


@contextmanager
def _disk_that_knows(renaming: str) -> Iterator[None]:
    """Simulate a disk with an atomic rename that overwrites nothing, with only hard links, or with neither."""
    with pytest.MonkeyPatch.context() as patch:
        if renaming != "atomic":
            patch.setattr(exclusive_rename, "_renameat2", None)
        if renaming == "neither":

            def refuse(*_arguments: Any, **_options: Any) -> None:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))

            patch.setattr(os, "link", refuse)
        yield


def test_no_original_is_lost_whatever_runs_and_whatever_fails(tmp_path: Path, sqlite_url: str, jpeg: Any) -> None:
    numbers = itertools.count()
    picture = jpeg()

    @given(
        folders=st.lists(_folders, min_size=1, max_size=4),
        actions=st.lists(_actions, min_size=3, max_size=10),
        unaccepted=st.sampled_from(["keep", "trash"]),
        renaming=st.sampled_from(["atomic", "atomic", "links", "neither"]),
        user_files=st.sampled_from(["rename", "rename", "report"]),
        merges=st.booleans(),
    )
    def nothing_is_lost(
        folders: list[Folder], actions: list[Action], unaccepted: Any, renaming: str, user_files: Any, merges: bool
    ) -> None:
        place = tmp_path / str(next(numbers))
        root, away = place / "library", place / "away"
        for folder in (*(root / tenant for tenant in TENANTS), away):
            folder.mkdir(parents=True)
        shutil.copy(sqlite_url.removeprefix("sqlite:///"), place / "photojobs.db")
        clock = ManualClock()
        settings = Settings.load(
            library_root=root,
            image_isolation=False,
            concurrency=1,
            retry_delay_seconds=0,
            heartbeat_seconds=30,
            stale_seconds=STALE_SECONDS,
            settle_seconds=0,
            trash_ttl_seconds=TTL_SECONDS,
            unaccepted_files=unaccepted,
            rename_user_files=user_files,
            merge_folders=merges,
        )
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, place)
            database = Database(place / "photojobs.db", clock=clock)
            stack.callback(database.close)
            runtime = stack.enter_context(Runtime(database, settings=settings))
            stack.enter_context(_disk_that_knows(renaming))
            world = World(runtime, clock, away, picture, has_links=renaming != "neither")
            for folder in folders:
                world.build(folder)
            for action in actions:
                world.act(action)
            # Without further faults, all tasks end, and all files are in their places.
            world.work(200)
            for tenant_id in TENANTS:
                world.start("folder_discovery", tenant_id, 0, 0)
                world.work(20)
                world.start("maintenance_global", tenant_id, 0, 0)
                world.work(60)
            assert not +(world.expected - world.found(at_rest=True)), "an original lies where nobody looks for it"

    nothing_is_lost()
