"""`StepContext`: the calls that a handler may make. They write nothing after the job was canceled or rescued."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from flows.errors import PermanentStepError, SkipItem, StepTimeout, named, reason_of
from flows.handlers.announced_moves import interrupted, take_back
from flows.handlers.failures import Failures
from flows.handlers.item_outcomes import OUTCOME_BATCH_SIZE, ItemOutcomes
from flows.handlers.job_progress import JobProgress
from flows.handlers.job_report import Report, store_report
from flows.handlers.job_targets import JobTargets, TargetItem
from flows.handlers.project_claim import claimed_projects
from flows.process.job_claim import JobClaim
from flows.process.runtime import Runtime
from storage.database.engine import Database
from storage.database.tables import photos as photos_table
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import StorageError
from storage.history.foreign_columns import snapshot_foreign_values
from storage.history.journal import FileAction, FileChange, write_journal
from storage.history.row_notes import RowChangesNote
from storage.history.row_snapshots import snapshot_project
from storage.library.errors import LibraryError
from storage.library.paths import Library, ProjectFolder
from storage.lifecycle.job_items import ItemOutcome
from storage.lifecycle.state_machine import lock_task
from storage.photos.projects import ProjectsRepository
from storage.queue.tasks import TasksRepository
from storage.records import ItemStatus, Job, Project
from storage.settings import Settings
from task_definitions.errors import PhotojobsError
from task_definitions.step_types import step_types

if TYPE_CHECKING:
    from flows.imaging.isolation.image_processing import ImageProcessing

#: The priority of follow-up jobs that make missing derivatives: below the work that users wait for.
FOLLOW_UP_PRIORITY = 85


class StepContext:
    """The job of a handler, the projects and photos of the job, and the calls that the handler may make.

    Attributes:
        job: the row of the claimed job.
        tenant_id: the job's tenant. A handler must not change files or rows of other tenants.
        params: the `params` of the step in its definition; empty for standalone jobs.
        targets: the projects and photos that the job works on.
        database: the database. To write, use `transaction`, which checks the claim.
        settings: the settings of this process.
        report: the counts of the handler's work, with the names of a few photos, files or projects for each count.
        outcomes: the outcomes of the items that have ended, until they are written.
        failures: counts the items and projects that were tried, and those that failed.
        logger: a logger that adds the task, job and tenant to each line.
    """

    def __init__(
        self,
        claim: JobClaim,
        runtime: Runtime,
        *,
        params: Mapping[str, Any] | None = None,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
        on_progress: Any = None,
    ) -> None:
        self.claim = claim
        self.job: Job = claim.job
        self.tenant_id = claim.job.tenant_id
        self.params = dict(params or {})
        self.targets = JobTargets(runtime.database, claim.job)
        self.database: Database = runtime.database
        self.settings: Settings = runtime.settings
        self.report = Report.continued(claim.job.report) if self._keeps_report else Report()
        self.logger = logger or logging.getLogger(f"photojobs.steps.{claim.job.type}")
        self._runtime = runtime
        self.outcomes = ItemOutcomes(self, runtime, self._store_report)
        self._progress = JobProgress(claim, runtime, on_progress)
        self.failures = Failures()
        self._unsafe_projects: set[int] = set()

    @property
    def _keeps_report(self) -> bool:
        step_type = step_types().get(self.job.type)
        return step_type is not None and step_type.unit == "items"

    @property
    def payload(self) -> dict[str, Any]:
        """The job's payload.

        Raises:
            CorruptPayload: the `payload_json` of the job's row is not a JSON object.
        """
        # The payload is read only when it is needed, so that a job with an unreadable payload fails like any other job.
        return self.job.payload

    @property
    def library(self) -> Library:
        """The library on disk."""
        return self._runtime.library

    @property
    def images(self) -> ImageProcessing:
        """The image processing, which decodes and encodes images in separate processes."""
        return self._runtime.images

    @property
    def names_photos(self) -> bool:
        """For steps of the unit `items`: whether the job works only on its items.

        It is false for a standalone job without items, which works on all photos of its project, or of all projects. It
        is true for every job of a task, even if all photos of the job were deleted.
        """
        return self.job.task_id is not None or bool(self.job.progress_total)

    def now(self) -> datetime:
        """Return the current time of the database's clock."""
        return self.database.clock()

    def checkpoint(self) -> None:
        """Return if the handler may continue, otherwise raise. Call this method before each side effect.

        Raises:
            ClaimLost: the job was canceled, or rescued and given to another executor.
            StepTimeout: the handler has run for longer than the `timeout_seconds` of the step.
            StopRequested: the process was asked to end, or to stop working on the task.
        """
        self.claim.check()
        self._progress.show_if_late()

    def progress(self, done: int, total: int | None = None) -> None:
        """Set the progress of the job. It is written at most once a second, and at the end of the job.

        Raises:
            InvalidValue: a number is negative, or is too large to be stored.
        """
        self._progress.report(done, total)

    @contextmanager
    def transaction(
        self,
        *,
        enqueues: bool = False,
        durable: bool = False,
        photo_ids: Sequence[int] = (),
        columns: Sequence[str] | None = None,
        project_ids: Sequence[int] = (),
        remarks: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> Iterator[Connection]:
        """Open a transaction that commits only if the claim is still valid.

        Args:
            enqueues: whether the transaction requests follow-up work or sets a flag of the task.
            durable: whether this commit and all earlier commits must survive a power cut after the block.
            photo_ids: the photos whose rows the transaction may change. For a job of a task, the journal keeps the
                former rows, so that an undo can restore them.
            columns: the columns of these photos that the transaction may change; by default, all columns, tags and
                derivatives.
            project_ids: the projects whose rows the transaction may change. The journal keeps their former rows too.
            remarks: further facts that the undo of a changed photo needs, by photo id.

        Raises:
            ClaimLost: the job was canceled or given to another executor; nothing was written.
        """
        with self.database.begin(durable=durable) as connection:
            if enqueues and self.job.task_id is not None:
                # The task is locked first, as in a cancellation, so that the transactions cannot wait for each other.
                lock_task(connection, self.job.task_id)
            self.claim.lock(connection)
            if self.job.task_id is None or not (photo_ids or project_ids):
                yield connection
                return
            changes = RowChangesNote(connection, photo_ids=photo_ids, columns=columns, project_ids=project_ids)
            yield connection
            self.journal(connection, changes.take(tenant_id=self.tenant_id, remarks=remarks or {}))

    def read(self) -> AbstractContextManager[Connection]:
        """Open a connection for reading."""
        return self.database.connect()

    def journal(self, connection: Connection, changes: Iterable[FileChange]) -> None:
        """Write changes of files and rows to the journal, in the transaction that changes the rows."""
        write_journal(
            connection,
            changes,
            tenant_id=self.tenant_id,
            task_id=self.job.task_id,
            job_id=self.job.id,
            now=self.now(),
        )

    def journal_added(self, connection: Connection, project: Project, photos: Mapping[int, str] | None = None) -> None:
        """Record in the journal that the job has added rows: the row of the project, or the rows of `photos`.

        For a job without a task, nothing is recorded, because such a job cannot be undone.

        Args:
            connection: the connection of the transaction that adds the rows.
            project: the project of the rows.
            photos: the base names of the added photos, by id; None for the row of the project.
        """
        if self.job.task_id is None:
            return
        folder = f"{self.tenant_id}/{project.project_folder}"
        entry = partial(FileChange, action=FileAction.ADDED_ROW, project_id=project.id)
        if photos is None:
            row = snapshot_project(connection, project.id)
            self.journal(connection, [entry(source=folder, row={"after": row})])
            return
        # The entries also keep the values that the database gave the new rows in columns of other programs.
        known = snapshot_foreign_values(connection, photos_table, list(photos))
        self.journal(
            connection,
            (
                entry(source=f"{folder}/{name}", photo_id=photo_id, row=known.get(photo_id))
                for photo_id, name in photos.items()
            ),
        )

    def tenant_of(self, project: Project) -> str:
        """Return the tenant of a project. A row without a tenant belongs to the default tenant."""
        return project.tenant_id or DEFAULT_TENANT

    def folder_of(self, project: Project) -> ProjectFolder:
        """Return the folder of a project, even if it does not exist on the disk."""
        return self.library.project(self.tenant_of(project), project.project_folder)

    def projects(self, *, archived: bool = False) -> list[Project]:
        """Return the active projects that the job works on, or the archived ones, in the order of their ids.

        A project whose folder has an unsafe name or is a symlink is recorded as failed and left out.
        """
        workable: list[Project] = []
        for project in self.targets.projects(archived=archived):
            try:
                self.folder_of(project)
            except LibraryError as error:
                if project.id not in self._unsafe_projects:
                    self._unsafe_projects.add(project.id)
                    self.failures.count_tried("project")
                    self._note_failed_project(project, error)
            else:
                workable.append(project)
        return workable

    def reload(self, project: Project) -> Project | None:
        """Return the current row of a project, for example after a wait; None if the row no longer exists."""
        return ProjectsRepository(self.database).get_by_id(project.id)

    @contextmanager
    def project(self, project: Project) -> Iterator[ProjectFolder]:
        """Run the block for one of the job's projects. A failure in the block is recorded, and the handler continues.

        If the step type modifies files, the method waits until the project is free, and claims the project during the
        block. It reads the name of the project's folder after the wait.

        Raises:
            ClaimLost, StepTimeout, StopRequested: raised by `checkpoint`, during the wait or in the block.
            LibraryError, OSError: files of an interrupted move could not be moved back. This failure is recorded too.
        """
        self.failures.count_tried("project")
        self.report.enter_project(project.project_name)
        is_entered = False
        try:
            with self.exclusively([project.id]):
                folder = self.folder_of(self.reload(project) or project)
                is_entered = True
                with self.report.timing(project.project_name):
                    yield folder
        except StepTimeout:
            raise
        except Exception as error:
            if not is_entered:
                if isinstance(error, LibraryError | OSError):
                    self._note_failed_project(project, error)
                raise
            self._note_failed_project(project, error)
        finally:
            self.report.enter_project(None)

    def _note_failed_project(self, project: Project, error: Exception) -> None:
        self.failures.add("project", error, name=project.project_name)
        self.report.fail(project.project_name, reason_of(error))
        self.logger.warning("project %s: %s", project.project_name, reason_of(error), exc_info=_unexpected(error))

    @contextmanager
    def exclusively(self, project_ids: Sequence[int]) -> Iterator[None]:
        """Claim all of the projects while the block runs. A step type that modifies no files claims no projects.

        A handler that needs two projects must name both in one call. If it claimed one project and then waited for the
        second project, two handlers could wait for each other forever. Before the block, files of interrupted moves are
        moved back.
        """
        step_type = step_types().get(self.job.type)
        if step_type is not None and not step_type.modifies_files:
            yield
            return
        claimed = set(project_ids)
        while True:
            with claimed_projects(self, sorted(claimed)):
                intents = interrupted(self.database, project_ids)
                concerned = {one for intent in intents for one in (intent.project_id, intent.target_project_id)}
                if concerned <= {*claimed, None}:
                    count = take_back(self.database, self.library, intents) if intents else 0
                    self.report.count("interrupted moves reverted", count)
                    yield
                    return
            claimed |= {one for one in concerned if one is not None}

    def item_batches(self, *, size: int = OUTCOME_BATCH_SIZE) -> Iterator[list[TargetItem]]:
        """Yield the job's open items with their photos and projects, in batches of at most `size` items.

        Some items are not yielded, but recorded as skipped: their photo no longer exists, their project is archived, or
        the task leaves out the photo or the project. An item of another tenant is recorded as failed. The outcomes of a
        batch are written before the next batch is read.
        """
        for batch, left_out in self.targets.open_items(size=size):
            self.outcomes.add(*left_out)
            for outcome in left_out:
                self.report.count(str(outcome.status), example=f"item {outcome.item_id}: {outcome.message}")
                if outcome.status == ItemStatus.FAILED:
                    error = PermanentStepError(outcome.message or "")
                    self.failures.add("photo", error, name=f"item {outcome.item_id}")
            self.failures.count_tried("photo", len(left_out))
            if batch:
                yield batch
            self.outcomes.write()

    @contextmanager
    def item(self, item: TargetItem) -> Iterator[None]:
        """Run the block for one item, and end the item as done.

        Raise `SkipItem` in the block if the item needs no work; the item then ends as skipped. After another error, it
        ends as failed; raise `PermanentStepError` if a repetition cannot succeed. The handler then continues with the
        next item. `StepTimeout` is raised to the caller, and the item stays unfinished.
        """
        self.checkpoint()
        self.failures.count_tried("photo")
        try:
            with self.report.timing(item.name):
                yield
        except SkipItem as error:
            self.outcomes.add(ItemOutcome(item.id, ItemStatus.SKIPPED, reason_of(error)))
            self.report.count("skipped", example=named(item.name, reason_of(error)))
        except StepTimeout:
            raise
        except Exception as error:
            self.failures.add("photo", error, name=item.name)
            self.outcomes.add(ItemOutcome(item.id, ItemStatus.FAILED, reason_of(error), type(error).__name__))
            self.report.fail(item.name, reason_of(error))
            self.logger.warning("%s", named(item.name, reason_of(error)), exc_info=_unexpected(error))
        else:
            self.outcomes.add(ItemOutcome(item.id, ItemStatus.DONE))
        self.outcomes.write_if_due()

    def enqueue(
        self,
        type: str,
        *,
        photo_ids: Iterable[int],
        priority: int = FOLLOW_UP_PRIORITY,
        payload: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Request follow-up jobs for photos, which run after the last step of this job's task.

        The follow-up jobs work on each photo once, even if another chunk or attempt requests the photo again. A photo
        that no longer exists is left out. The follow-up of a job without a task is a standalone job.

        Args:
            type: the step type of the follow-up jobs.
            photo_ids: the ids of the photos.
            priority: the priority of the follow-up jobs.
            payload: the payload of the follow-up jobs.
            connection: the connection of `ctx.transaction(enqueues=True)`, if the request must commit together with
                other changes.
        """
        ids = list(dict.fromkeys(photo_ids))
        if not ids:
            return
        with nullcontext(connection) if connection is not None else self.transaction(enqueues=True) as connection:
            if self.job.task_id is not None:
                TasksRepository(connection).add_follow_up(
                    self.job.task_id, type=type, priority=priority, photo_ids=ids, payload=payload
                )
            else:
                self.targets.enqueue_standalone(connection, type, photo_ids=ids, priority=priority, payload=payload)

    def set_flag(self, flag: str, value: bool) -> None:
        """Set a flag that the `run_if` of a later step reads. The flag is true if any chunk sets it to true."""
        if self.job.task_id is not None:
            with self.transaction(enqueues=True) as connection:
                TasksRepository(connection).set_flag(self.job.task_id, flag, value)

    def finish(self) -> None:
        """Write the remaining outcomes and the progress. Call this method when the handler has returned or raised."""
        self.outcomes.write()
        self._progress.write()

    def keep_report(self) -> None:
        """Store the report for the next attempt, which continues it. Call this method before the job is repeated."""
        # The write is not repeated, because returning the job to the queue is more important.
        with suppress(StorageError), self.database.begin() as connection:
            self._store_report(connection)

    def _store_report(self, connection: Connection) -> None:
        if self._keeps_report:
            store_report(connection, self.report, claim=self.claim)


def _unexpected(error: BaseException) -> BaseException | None:
    return None if isinstance(error, PhotojobsError | OSError) else error
