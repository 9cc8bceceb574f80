"""Finds the targets of a job: the projects of its scope, and its items with their photos."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from sqlalchemy import Connection, func, select

from storage.database.column_types import encode_json
from storage.database.engine import Access, Database
from storage.database.tables import job_items, photos, task_projects, tasks
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import InvalidValue
from storage.lifecycle.job_items import ItemOutcome, existing_photos
from storage.photo_sets import PhotoTarget, iterate_items, locate
from storage.photos.projects import ProjectsRepository
from storage.queue.jobs import JobsRepository
from storage.queue.tasks import TasksRepository
from storage.records import ItemStatus, Job, JobItem, Photo, Project

#: The key of a task's payload under which `LeftOut` is stored.
LEAVE_OUT = "leave_out"

_OPEN = ("pending", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetItem:
    """An unfinished item of a job, with its photo and the photo's project."""

    item: JobItem
    photo: Photo
    project: Project

    @property
    def id(self) -> int:
        """The id of the item."""
        return self.item.id

    @property
    def name(self) -> str:
        """The base name of the photo."""
        return self.photo.filename


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The projects, photos and folders that a task must not change: the part `leave_out` of its payload.

    Attributes:
        projects: the ids of projects.
        photos: the ids of photos, which steps with unit `items` skip.
        folders: the names of folders of the tenant without a project, which `folder_discovery` ignores.
    """

    projects: frozenset[int] = frozenset()
    photos: frozenset[int] = frozenset()
    folders: frozenset[str] = frozenset()

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Read the value `leave_out` of a payload. The result is empty if the payload has no such value.

        Raises:
            InvalidValue: the value is not valid.
        """
        part = payload.get(LEAVE_OUT) or {}
        kinds = {"projects": int, "photos": int, "folders": str}
        if not isinstance(part, Mapping) or any(
            name not in kinds
            or not isinstance(names, list | tuple)
            or not all(isinstance(each, kinds[name]) for each in names)
            for name, names in part.items()
        ):
            raise InvalidValue(
                "payload",
                f"`{LEAVE_OUT}` must be a mapping with no other keys than `projects` and `photos`, which are lists of "
                "ids, and `folders`, a list of names",
            )
        return cls(**{name: frozenset(part.get(name, ())) for name in kinds})

    def to_payload(self) -> dict[str, Any]:
        """Return a payload with the part `leave_out`; an empty payload if nothing is left out."""
        part = {name: sorted(getattr(self, name)) for name in ("projects", "photos", "folders")}
        return {LEAVE_OUT: part} if any(part.values()) else {}


class JobTargets:
    """Reads the projects and items on which one job works."""

    def __init__(self, database: Database, job: Job) -> None:
        self._database = database
        self._job = job

    @cached_property
    def left_out(self) -> LeftOut:
        """The projects, photos and folders that no job of the task may change, including follow-up jobs."""
        task = None if self._job.task_id is None else TasksRepository(self._database).get_by_id(self._job.task_id)
        return LeftOut.of_payload(self._job.payload if task is None else task.payload)

    def projects(self, *, archived: bool = False) -> list[Project]:
        """Return the active projects of the job's scope and tenant, or the archived ones, in the order of their ids.

        A job of a task works on the projects of the task. A standalone `photo_set` job works on the projects of its
        items, and on the project that its row names. Projects in `left_out` are not returned.
        """
        with self._database.connect() as connection:
            ids = self._project_ids(connection)
            found = ProjectsRepository(connection).list(tenant_id=self._job.tenant_id, archived=archived, ids=ids)
        return [project for project in found if project.id not in self.left_out.projects]

    def open_items(self, *, size: int) -> Iterator[tuple[list[TargetItem], list[ItemOutcome]]]:
        """Yield batches of unfinished items, each with the outcomes of the items that were left out of it."""
        access = Access(self._database)
        for items in iterate_items(access, self._job.id, batch_size=size, statuses=_OPEN):
            batch: list[TargetItem] = []
            left_out: list[ItemOutcome] = []
            for item, found in locate(access, items):
                if found is None:
                    left_out.append(ItemOutcome(item.id, ItemStatus.SKIPPED, "the photo does not exist"))
                elif (reason := self._reason_to_leave_out(found)) is not None:
                    left_out.append(ItemOutcome(item.id, *reason))
                else:
                    batch.append(TargetItem(item=item, photo=found.photo, project=found.project))
            yield batch, left_out

    def count_closed_items(self, connection: Connection) -> int:
        """Return the number of items of the job that are done, failed or skipped."""
        statement = select(func.count()).where(job_items.c.job_id == self._job.id, job_items.c.status.not_in(_OPEN))
        return int(connection.execute(statement).scalar_one())

    def enqueue_standalone(
        self,
        connection: Connection,
        type: str,
        *,
        photo_ids: Sequence[int],
        priority: int,
        payload: Mapping[str, Any] | None,
    ) -> None:
        """Enqueue follow-up work of a standalone job, unless the jobs of an equal request are still unfinished.

        Photos that no longer exist are left out.
        """
        existing = existing_photos(connection, photo_ids)
        ids = [photo_id for photo_id in photo_ids if photo_id in existing]
        if not ids:
            return
        request = encode_json({"photos": ids, "priority": priority, "payload": dict(payload or {})})
        digest = hashlib.blake2b(request.encode(), digest_size=16).hexdigest()
        JobsRepository(connection).enqueue_with_items(
            tenant_id=self._job.tenant_id,
            type=type,
            scope="photo_set",
            items=[{"photo_id": photo_id} for photo_id in ids],
            auto_chunk=True,
            priority=priority,
            payload=payload,
            unique_key=f"follow-up:{type}:{digest}",
        )

    def _project_ids(self, connection: Connection) -> list[int] | None:
        job = self._job
        if job.scope == "project":
            return [] if job.project_id is None else [job.project_id]
        if job.scope == "global":
            return None
        if job.task_id is not None:
            of_task = select(task_projects.c.project_id).join(tasks, tasks.c.id == task_projects.c.task_id)
            return list(connection.execute(of_task.where(tasks.c.id == job.task_id)).scalars())
        of_items = (
            select(photos.c.project_id)
            .join(job_items, job_items.c.photo_id == photos.c.id)
            .where(job_items.c.job_id == job.id)
            .distinct()
        )
        found = set(connection.execute(of_items).scalars())
        return sorted(found | ({job.project_id} if job.project_id is not None else set()))

    def _reason_to_leave_out(self, target: PhotoTarget) -> tuple[ItemStatus, str] | None:
        if (target.project.tenant_id or DEFAULT_TENANT) != self._job.tenant_id:
            return ItemStatus.FAILED, "the photo does not belong to the job's tenant; queue it for its own tenant"
        if target.photo.id in self.left_out.photos or target.project.id in self.left_out.projects:
            return ItemStatus.SKIPPED, "this run leaves out the photo or its project (leave_out in the payload)"
        if target.project.is_archived:
            return ItemStatus.SKIPPED, "the project of the photo is archived"
        return None
