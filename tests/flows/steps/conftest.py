"""Fixtures of step tests: a library on disk with rows, a runtime, and a death at any point of a step."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import RowMapping, select

from flows.execution.job_run import run_claimed_job
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from flows.steps.projects.manifest_check import manifest_of
from flows.testing import run_queued_job, run_step
from storage import Database, JobsRepository, PhotosRepository, Project, ProjectsRepository, Task, TasksRepository
from storage.database.tables import (
    file_journal,
    job_items,
    jobs,
    metadata,
    photo_derivatives,
    photo_originals,
    photo_tags,
    photos,
    project_claims,
    projects,
    tags,
)
from storage.library import exclusive_rename
from storage.library.atomic_write import TEMPORARY_PREFIX
from storage.library.manifest import write_manifest
from storage.library.paths import ProjectFolder
from storage.library.trash import parse_trash_name
from storage.records import Job, Photo
from storage.settings import Settings
from task_definitions import TaskDefinition
from tests.flows.conftest import items_of

#: The tables that a step may change, without those about the run itself, such as jobs and tasks.
_TABLES = (projects, photos, tags, photo_tags, file_journal, photo_derivatives, photo_originals)
_SYSTEM_CALLS = ("link", "unlink", "rename", "replace", "mkdir", "rmdir", "write")


class Death(BaseException):
    """A simulated death of the process; nothing after this point happens."""


@dataclass
class Studio:
    """Creates projects and photos on disk and in SQL, runs steps, and returns files and rows."""

    runtime: Runtime
    database: Database

    @property
    def root(self) -> Path:
        return self.runtime.library.root

    def project(self, name: str, *, tenant_id: str = "tenant", archived: bool = False) -> Project:
        """Create an empty project with its folder."""
        repository = ProjectsRepository(self.database)
        project = repository.create(project_name=name, project_folder=name, tenant_id=tenant_id)
        self.folder(project).create()
        return (repository.archive(project.id) if archived else None) or project

    def write_manifest(self, *projects: Project) -> None:
        """Write the manifests of projects. Without a manifest and a known photo, a project would be unavailable."""
        for project in projects:
            write_manifest(self.folder(project), manifest_of(project), at=self.database.clock())

    def give_away(self, project: Project, tenant_id: str) -> None:
        """Move a project to another tenant, which photojobs never does; queued jobs still name its photos."""
        (self.root / tenant_id).mkdir(exist_ok=True)
        folder = self.folder(project).path
        folder.rename(self.root / tenant_id / folder.name)
        with self.database.begin() as connection:
            connection.execute(projects.update().where(projects.c.id == project.id).values(tenant_id=tenant_id))

    def make_unreadable(self, project: Project, monkeypatch: pytest.MonkeyPatch, *, error: int) -> None:
        """Let each listing of the folder of a project fail with this error of the operating system."""
        scandir, damaged = os.scandir, self.folder(project).path

        def failing(path: Any) -> Any:
            if Path(path) == damaged:
                raise OSError(error, os.strerror(error), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", failing)

    def folder(self, project: Project) -> ProjectFolder:
        return self.runtime.library.project(project.tenant_id or "user_0", project.project_folder)

    def photo(
        self,
        project: Project,
        name: str,
        *files: str,
        contents: Mapping[str, bytes] | None = None,
        derivatives: bool = False,
        tagged: tuple[str, ...] = (),
        **columns: Any,
    ) -> int:
        """Create a photo with the given files (`"jpg"`, `"NEF"`, `"jpg.xmp"`) and a matching row; return its id."""
        folder = self.folder(project)
        accepted = self.runtime.library.accepted_extensions
        kinds = set()
        for extension in files:
            content = (contents or {}).get(extension, f"{project.project_name}/{name}.{extension}".encode())
            (folder.path / f"{name}.{extension}").write_bytes(content)
            kinds.add(str(accepted.describe(f"{name}.{extension}").kind))
        row = {"project_id": project.id, "filename": name}
        row |= {f"{kind}_available": int(kind in kinds) for kind in ("jpg", "raw", "other")}
        if derivatives:
            folder.thumbnail(name).write_bytes(b"thumb of " + name.encode())
            folder.preview_image(name).write_bytes(b"preview of " + name.encode())
            row |= {"thumbnail_status": "generated", "preview_status": "generated"}
        [photo_id] = PhotosRepository(self.database).create_many([row | columns])
        with self.database.begin() as connection:
            if not kinds & {"jpg", "raw", "other"}:
                # The file has been missing for longer than any `missing_grace_seconds`.
                connection.execute(
                    photo_originals.insert().values(
                        photo_id=photo_id, name=name, kind="other", missing_since=datetime(2020, 1, 1, tzinfo=UTC)
                    )
                )
            for tag in tagged:
                known = select(tags.c.id).where(tags.c.project_id == project.id, tags.c.name == tag)
                tag_id = connection.execute(known).scalar_one_or_none()
                if tag_id is None:
                    inserted = tags.insert().values(project_id=project.id, name=tag).returning(tags.c.id)
                    tag_id = connection.execute(inserted).scalar_one()
                connection.execute(photo_tags.insert().values(photo_id=photo_id, tag_id=tag_id))
        return photo_id

    def run(self, type: str, *, tenant_id: str = "tenant", **arguments: Any) -> Job:
        return run_step(self.runtime, type=type, tenant_id=tenant_id, **arguments)

    def run_task(self, definition: TaskDefinition, *, task_id: str = "task", **arguments: Any) -> Task:
        """Start a task, run its jobs and all other queued jobs one after the other, and return the task."""
        tasks, jobs = TasksRepository(self.database), JobsRepository(self.database)
        tasks.start(new_task(definition, task_id=task_id, tenant_id="tenant", **arguments))
        while (job := jobs.claim_next("worker")) is not None:
            run_claimed_job(job, self.runtime)
        return tasks.get(task_id)

    def enqueue(self, type: str, *photo_ids: int, **arguments: Any) -> int:
        """Queue a job, with an item for each of the photos; return its id."""
        jobs, arguments = JobsRepository(self.database), {"tenant_id": "tenant", "type": type, **arguments}
        if not photo_ids:
            return jobs.enqueue(**arguments).id
        queued = jobs.enqueue_with_items(items=items_of(*photo_ids), **arguments)
        assert isinstance(queued, Job)
        return queued.id

    def get_photo(self, photo_id: int) -> Photo | None:
        return PhotosRepository(self.database).get_by_id(photo_id)

    def tags_of(self, photo_id: int) -> list[tuple[int, str]]:
        statement = (
            select(tags.c.project_id, tags.c.name)
            .join(photo_tags, photo_tags.c.tag_id == tags.c.id)
            .where(photo_tags.c.photo_id == photo_id)
            .order_by(tags.c.name)
        )
        with self.database.connect() as connection:
            return [(row.project_id, row.name) for row in connection.execute(statement)]

    def journal_rows(self) -> Sequence[RowMapping]:
        with self.database.connect() as connection:
            return connection.execute(select(file_journal).order_by(file_journal.c.id)).mappings().all()

    def journal(self) -> list[tuple[str, str, str | None]]:
        """Return action, source and target of every entry; names in the trash are the original names."""
        return [(row["action"], row["source"], _plain(row["target"])) for row in self.journal_rows()]

    def follow_ups(self) -> list[tuple[str, int, int]]:
        """Return type, priority and photo of the jobs that process photos after other steps, in order of the photos."""
        statement = (
            select(jobs.c.type, jobs.c.priority, job_items.c.photo_id)
            .join(job_items, job_items.c.job_id == jobs.c.id)
            .where(jobs.c.type == "upload_postprocess")
            .order_by(job_items.c.photo_id)
        )
        with self.database.connect() as connection:
            return [(row.type, row.priority, row.photo_id) for row in connection.execute(statement)]

    def disk(self) -> dict[str, bytes]:
        """Return every file below the root by its path; names in the trash are the original names."""
        return {
            str(_plain(path.relative_to(self.root).as_posix())): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    def everything(self) -> dict[str, Any]:
        """Return all files, with their real names in the trash, and all rows that a step may change."""
        found: dict[str, Any] = {
            path.relative_to(self.root).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
        }
        with self.database.connect() as connection:
            for table in _TABLES:
                rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
                found[f"table {table.name}"] = [dict(row) for row in rows]
        return found

    def outcome(self) -> dict[str, Any]:
        """Return the files and values that are equal after two runs with the same result, also after interruptions."""
        found: dict[str, Any] = {name: file for name, file in self.disk().items() if TEMPORARY_PREFIX not in name}
        with self.database.connect() as connection:
            for table in (projects, photos, tags, photo_tags, photo_derivatives, photo_originals):
                rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
                found[f"table {table.name}"] = [
                    {name: value for name, value in row.items() if not name.endswith(("_at", "_ns"))} for row in rows
                ]
        found["journal"] = sorted(self.journal(), key=repr)
        return found


def _plain(path: str | None) -> str | None:
    if path is None or "/.trash/" not in path:
        return path
    folder, _, name = path.rpartition("/")
    parsed = parse_trash_name(name)
    return path if parsed is None else f"{folder}/{parsed.original_name}"


@pytest.fixture
def runtime(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime on the database of the test, with a library that has the folder of one tenant.

    A test sets settings by `@pytest.mark.parametrize("runtime", [{"merge_folders": False}], indirect=True)`.
    """
    root = tmp_path / "library"
    (root / "tenant").mkdir(parents=True)
    settings = Settings.load(
        library_root=root,
        concurrency=2,
        heartbeat_seconds=0.2,
        poll_seconds=0.05,
        image_isolation=False,
        # Files that tests create are new, so steps would wait for the end of their changes.
        settle_seconds=0,
        **{"rename_user_files": "rename", "merge_folders": True, **getattr(request, "param", {})},
    )
    opened = Runtime(database, settings=settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """Return a JPEG with these EXIF values: `jpeg(DateTimeOriginal="2024:05:06 07:08:09", Make="Nikon")`."""
    from flows.imaging.pixels.vips import load_vips

    pyvips = load_vips()
    folders = {"Make": 0, "Model": 0, "Orientation": 0, "ModifyDate": 0, "DateTimeOriginal": 2}

    def make(width: int = 60, height: int = 40, *, shade: int = 120, **exif: Any) -> bytes:
        image = pyvips.Image.black(width, height, bands=3).linear([1, 1, 1], [shade, 80, 200]).cast("uchar")
        image = image.copy(interpretation="srgb")
        for name, value in exif.items():
            if name == "Orientation":
                image.set_type(pyvips.GValue.gint_type, "orientation", value)
            else:
                text = f"{value} ({value}, ASCII, {len(value) + 1} components, {len(value) + 1} bytes)"
                image.set_type(pyvips.GValue.gstr_type, f"exif-ifd{folders[name]}-{name}", text)
        written: bytes = image.jpegsave_buffer()
        return written

    return make


@pytest.fixture
def studio(runtime: Runtime, database: Database) -> Studio:
    return Studio(runtime, database)


class DeathAt:
    """Dies at the given change of the disk or transaction of this thread, counted from 0; then all calls fail."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._count = 0
        self._thread = threading.get_ident()
        self.is_dead = False

    def point(self) -> None:
        if threading.get_ident() != self._thread:
            return
        if self.is_dead or self._count == self._number:
            self.is_dead = True
            raise Death
        self._count += 1

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.point()
            return function(*arguments, **options)

        return call


class FailureAt(DeathAt):
    """Lets the disk fail once, at the given change of this thread, counted from 0; later changes work."""

    def point(self) -> None:
        if threading.get_ident() == self._thread:
            self._count += 1
            if self._count == self._number + 1:
                self.is_dead = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))


@contextmanager
def _disk_struck_by(strike: DeathAt) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in _SYSTEM_CALLS:
            patch.setattr(os, name, strike.wrap(getattr(os, name)))
        open_file = os.open

        def open_or_create(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                strike.point()
            return open_file(path, flags, *arguments, **options)

        patch.setattr(os, "open", open_or_create)
        if exclusive_rename._renameat2 is not None:
            patch.setattr(exclusive_rename, "_renameat2", strike.wrap(exclusive_rename._renameat2))
        yield patch


@contextmanager
def failing_at(number: int) -> Iterator[DeathAt]:
    """Let the disk fail once, at the n-th change of this thread."""
    failure = FailureAt(number)
    with _disk_struck_by(failure):
        yield failure


@contextmanager
def dying_at(number: int) -> Iterator[DeathAt]:
    """Let this thread die at its n-th event; events are changes of the disk and transactions."""
    death = DeathAt(number)
    begin = Database.begin

    @contextmanager
    def mortal_begin(self: Database, **options: Any) -> Iterator[Any]:
        death.point()
        with begin(self, **options) as connection:
            yield connection

    with _disk_struck_by(death) as patch:
        patch.setattr(Database, "begin", mortal_begin)
        yield death


@dataclass
class Deaths:
    """Runs the same step again and again on a new copy of the same library, and lets it die at each point in turn."""

    studio: Studio
    tmp_path: Path

    def each(
        self,
        prepare: Callable[[Studio], int],
        *,
        strike: Callable[[int], AbstractContextManager[DeathAt]] = dying_at,
        is_repeated: bool = True,
        every: int = 1,
    ) -> Iterator[int]:
        """Yield after each death or other fault, when the job has been repeated or canceled.

        `prepare` creates rows and files, and returns the id of a queued job. The studio is emptied before each round.
        With `every`, only one of this many changes has a fault.
        """
        number = 0
        while True:
            self._empty()
            job_id = prepare(self.studio)
            with strike(number) as death, suppress(Death):
                run_queued_job(self.studio.runtime, job_id)
            if not death.is_dead:
                return
            jobs = JobsRepository(self.studio.database)
            found = jobs.get_by_id(job_id)
            assert found is not None
            if not found.is_final:
                if found.status == "running":
                    jobs.increment_attempts(job_id)
                if is_repeated:
                    jobs.requeue(job_id)
                else:
                    jobs.cancel(job_id)
                with self.studio.database.begin() as connection:
                    # Do the same as a rescue: the executor is dead, and its claims on projects end.
                    connection.execute(project_claims.delete())
                if is_repeated:
                    ended = run_queued_job(self.studio.runtime, job_id)
                    assert ended.status == "completed", ended.error_message
            yield number
            number += every

    def check(
        self,
        prepare: Callable[[Studio], int],
        *,
        more_than: int = 0,
        outcome: Callable[[Studio], Any] = Studio.outcome,
    ) -> None:
        """Check that a death at each of more than `more_than` points ends like an undisturbed run; see `each`."""
        assert run_queued_job(self.studio.runtime, prepare(self.studio)).status == "completed"
        undisturbed = outcome(self.studio)
        rounds = 0
        for number in self.each(prepare):
            assert outcome(self.studio) == undisturbed, f"after a death at point {number}"
            rounds += 1
        assert rounds > more_than

    def _empty(self) -> None:
        root = self.studio.root
        root.rename(self.tmp_path / f"used-{os.urandom(8).hex()}")
        (root / "tenant").mkdir(parents=True)
        with self.studio.database.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                if table.name != "lanes":
                    connection.execute(table.delete())
            if connection.dialect.name == "postgresql":
                for table in ("projects", "photos", "tags", "jobs", "job_items", "file_journal"):
                    connection.exec_driver_sql(f"ALTER SEQUENCE {table}_id_seq RESTART")
            else:
                connection.exec_driver_sql("DELETE FROM sqlite_sequence")


@pytest.fixture
def deaths(studio: Studio, tmp_path: Path) -> Deaths:
    return Deaths(studio, tmp_path)
