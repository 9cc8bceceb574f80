"""`StepContext`: everything that a handler may use. Each write of it is refused once the job's claim is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from flows.errors import PermanentStepError, SkipItem, StepTimeout, reason_of
from flows.handlers.announced_moves import MoveGroup, announce, interrupted, take_back
from flows.handlers.failures import Failures
from flows.handlers.item_outcomes import OUTCOME_BATCH_SIZE, ItemOutcomes
from flows.handlers.job_progress import JobProgress
from flows.handlers.job_report import Report, store_report
from flows.handlers.job_targets import JobTargets, TargetItem
from flows.handlers.project_hold import hold_projects
from flows.process.job_claim import JobClaim
from flows.process.runtime import Runtime
from storage.database.engine import Database
from storage.errors import StorageError
from storage.history.journal import FileAction, FileChange, write_journal
from storage.history.row_notes import RowChangesNote
from storage.library.errors import LibraryError
from storage.library.paths import Library, ProjectFolder
from storage.lifecycle.job_items import ItemOutcome
from storage.lifecycle.state_machine import lock_task
from storage.lifecycle.step_jobs import DEFAULT_TENANT
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
    """The job that a handler runs, the projects and photos that it works on, and the calls that the handler may make.

    Attributes:
        job: the claimed row.
        params: the `params` of the step in its definition; empty for standalone jobs.
        report: counts what the handler did, with the first names of each kind.
        logger: adds task, job and tenant to each line.
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
        self.params = dict(params or {})
        self.report = Report.continued(claim.job.result) if self._keeps_report else Report()
        self.logger = logger or logging.getLogger(f"photojobs.steps.{claim.job.type}")
        self._runtime = runtime
        self._targets = JobTargets(runtime.database, claim.job)
        self._outcomes = ItemOutcomes(self, runtime, self._store_report)
        self._progress = JobProgress(claim, runtime, on_progress)
        self._failures = Failures()
        self._unsafe_projects: set[int] = set()

    @property
    def _keeps_report(self) -> bool:
        step_type = step_types().get(self.job.type)
        return step_type is not None and step_type.unit == "items"

    @property
    def tenant_id(self) -> str:
        """The job's tenant. A handler touches nothing of another tenant."""
        return self.job.tenant_id

    @property
    def payload(self) -> dict[str, Any]:
        """The job's payload."""
        return self.job.payload

    @property
    def database(self) -> Database:
        """The database. To write, use `transaction`, which checks the claim."""
        return self._runtime.database

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return self._runtime.settings

    @property
    def library(self) -> Library:
        """The library on disk."""
        return self._runtime.library

    @property
    def images(self) -> ImageProcessing:
        """Decodes and encodes images in separate processes."""
        return self._runtime.images

    @property
    def targets(self) -> JobTargets:
        """The projects and photos that the job works on."""
        return self._targets

    @property
    def names_photos(self) -> bool:
        """Whether the job works on its items only.

        A standalone job without items works on all photos of its project, or of all projects. A job of a task never
        does: if none of its photos is left, it works on none.
        """
        return self.job.task_id is not None or bool(self.job.progress_total)

    def now(self) -> datetime:
        """The current moment, from the database's clock."""
        return self._runtime.database.clock()

    def checkpoint(self) -> None:
        """Return if the handler may go on. Call it before each side effect.

        Raises:
            ClaimLost: the job was canceled, or rescued and given to another executor.
            StepTimeout: the step's time is over.
            StopRequested: the process is to end.
        """
        self.claim.check()
        self._progress.show_if_late()

    def progress(self, done: int, total: int | None = None) -> None:
        """Report how far the job is. It is written at most once a second, and at the end.

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
            enqueues: whether follow-up work is requested in it.
            durable: whether it, and everything committed before it, must survive a power cut after the block.
            photo_ids: the photos whose rows it may change. For a job of a task, their rows before the change are
                journaled, so that an undo can restore them.
            columns: the columns of these photos that it may change; by default all columns, tags and derivatives.
            project_ids: the projects whose rows it may change; they are journaled in the same way.
            remarks: further facts for an undo of a changed photo, by photo id.

        Raises:
            ClaimLost: the job was canceled or given to another executor; nothing was written.
        """
        with self._runtime.database.begin(durable=durable) as connection:
            if enqueues and self.job.task_id is not None:
                # A cancellation of the task locks the rows in the same order.
                lock_task(connection, self.job.task_id)
            self.claim.lock(connection)
            if self.job.task_id is None or not (photo_ids or project_ids):
                yield connection
                return
            changes = RowChangesNote(connection, photo_ids=photo_ids, columns=columns, project_ids=project_ids)
            yield connection
            self.journal(connection, changes.take(tenant_id=self.tenant_id, remarks=remarks or {}))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection for reading."""
        with self._runtime.database.connect() as connection:
            yield connection

    def journal(self, connection: Connection, changes: Iterable[FileChange]) -> None:
        """Journal changes of originals, in the transaction that changes their rows."""
        write_journal(
            connection,
            changes,
            tenant_id=self.tenant_id,
            task_id=self.job.task_id,
            job_id=self.job.id,
            now=self.now(),
        )

    def journal_added(self, connection: Connection, project: Project, photos: Mapping[int, str] | None = None) -> None:
        """Journal the rows that a task has added: the project's row, or those of `photos` (base names by id)."""
        if self.job.task_id is None:
            return
        folder = f"{self.tenant_id}/{project.project_folder}"
        added: dict[int | None, str] = (
            {None: folder} if photos is None else {photo_id: f"{folder}/{name}" for photo_id, name in photos.items()}
        )
        self.journal(
            connection,
            (
                FileChange(action=FileAction.ADDED_ROW, source=source, project_id=project.id, photo_id=photo_id)
                for photo_id, source in added.items()
            ),
        )

    def tenant_of(self, project: Project) -> str:
        """The tenant of a project. A row from before tenants existed belongs to the default tenant."""
        return project.tenant_id or DEFAULT_TENANT

    def folder_of(self, project: Project) -> ProjectFolder:
        """The folder of a project, whether or not it exists."""
        return self.library.project(self.tenant_of(project), project.project_folder)

    def projects(self, *, archived: bool = False) -> list[Project]:
        """The projects that the job works on, in id order: the active ones, or the archived ones if `archived`.

        A project whose folder has an unsafe name, or is a symlink, is recorded as failed and left out.
        """
        workable: list[Project] = []
        for project in self._targets.projects(archived=archived):
            try:
                self.folder_of(project)
            except LibraryError as error:
                if project.id not in self._unsafe_projects:
                    self._unsafe_projects.add(project.id)
                    self._failures.tried += 1
                    self._note_failed_project(project, error)
            else:
                workable.append(project)
        return workable

    def reload(self, project: Project) -> Project | None:
        """Read the row of a project again, for example after a wait; None if the row no longer exists."""
        return self._targets.reload(project)

    @contextmanager
    def project(self, project: Project) -> Iterator[ProjectFolder]:
        """Work on one project of several. A failure in the block is recorded, and the handler goes on.

        A step type that modifies files waits until the project is free, then holds it during the block. The folder is
        read after that wait.

        Raises:
            LibraryError, OSError: interrupted moves in the project could not be taken back; this is recorded, too.
        """
        self._failures.tried += 1
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
        self._failures.add(project.project_name, error)
        self.report.fail(project.project_name, reason_of(error))
        self.logger.warning("project %s: %s", project.project_name, reason_of(error), exc_info=_unexpected(error))

    @contextmanager
    def exclusively(self, project_ids: Sequence[int]) -> Iterator[None]:
        """Hold all of the projects while the block runs. For a step type that modifies no files, hold nothing.

        A handler that needs two projects asks for both in one call: if it held one and waited for the other, two
        handlers could wait for each other without end. Interrupted moves in these projects are taken back first.
        """
        step_type = step_types().get(self.job.type)
        if step_type is not None and not step_type.modifies_files:
            yield
            return
        with hold_projects(self, project_ids):
            intents = interrupted(self.database, project_ids)
            if not intents:
                yield
                return
        concerned = {one for intent in intents for one in (intent.project_id, intent.target_project_id)}
        all_ids = sorted({*project_ids, *(one for one in concerned if one is not None)})
        with hold_projects(self, all_ids):
            count = take_back(self.database, self.library, interrupted(self.database, project_ids))
            self.report.count("interrupted moves taken back", count)
            yield

    def announce(self, groups: Sequence[MoveGroup]) -> None:
        """Store durably which files are about to move, before any of them moves; see `announced_moves`."""
        self.checkpoint()
        announce(self.database, groups, job=self.job, library=self.library, now=self.now())

    def item_batches(self, *, size: int = OUTCOME_BATCH_SIZE) -> Iterator[list[TargetItem]]:
        """The job's open items with their photos and projects, in batches; each batch is one query.

        An item is recorded and left out if its photo no longer exists, or if its project is archived or belongs to
        another tenant. The outcomes of a batch are written before the next batch is read.
        """
        for batch, left_out in self._targets.open_items(size=size):
            self._outcomes.add(*left_out)
            for outcome in left_out:
                self.report.count(str(outcome.status), example=f"item {outcome.item_id}: {outcome.message}")
                if outcome.status == ItemStatus.FAILED:
                    self._failures.add(f"item {outcome.item_id}", PermanentStepError(outcome.message or ""))
            self._failures.tried += len(left_out)
            if batch:
                yield batch
            self.write_outcomes()

    @contextmanager
    def item(self, item: TargetItem) -> Iterator[None]:
        """Work on one item. It ends as done, or as failed with the reason, and the handler goes on.

        Raise `SkipItem` in the block if there is nothing to do for the item. Raise `PermanentStepError` if a
        repetition cannot succeed.
        """
        self.checkpoint()
        self._failures.tried += 1
        try:
            with self.report.timing(item.name):
                yield
        except SkipItem as error:
            self._outcomes.add(ItemOutcome(item.id, ItemStatus.SKIPPED, reason_of(error)))
            self.report.count("skipped", example=f"{item.name}: {reason_of(error)}")
        except StepTimeout:
            raise
        except Exception as error:
            self._failures.add(item.name, error)
            self._outcomes.add(ItemOutcome(item.id, ItemStatus.FAILED, reason_of(error), type(error).__name__))
            self.report.fail(item.name, reason_of(error))
            self.logger.warning("%s: %s", item.name, reason_of(error), exc_info=_unexpected(error))
        else:
            self._outcomes.add(ItemOutcome(item.id, ItemStatus.DONE))
        self._outcomes.write_if_due()

    def write_outcomes(self) -> None:
        """Write the outcomes of the items that have ended since the last write, and the progress."""
        self._outcomes.write()

    def emit_item_event(self) -> None:
        """Emit one event for the items whose outcomes were written since the last such event."""
        self._outcomes.emit_event()

    def enqueue(
        self,
        type: str,
        *,
        photo_ids: Iterable[int],
        priority: int = FOLLOW_UP_PRIORITY,
        payload: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Request follow-up work on photos, to be done after the last step of this job's task.

        The work is done once, even if another chunk, or a repetition of this job, requests it again. For a job
        without a task, the follow-up is a standalone job.

        Args:
            type: the step type of the follow-up jobs.
            photo_ids: the photos.
            priority: of the follow-up jobs.
            payload: of the follow-up jobs.
            connection: of `ctx.transaction(enqueues=True)`, if the request must commit together with other changes.
        """
        ids = list(dict.fromkeys(photo_ids))
        if not ids:
            return
        items = [{"photo_id": photo_id} for photo_id in ids]
        with nullcontext(connection) if connection is not None else self.transaction(enqueues=True) as connection:
            if self.job.task_id is not None:
                TasksRepository(connection).add_follow_up(
                    self.job.task_id, type=type, priority=priority, items=items, payload=payload
                )
            else:
                self._targets.enqueue_standalone(connection, type, items=items, priority=priority, payload=payload)

    def set_flag(self, flag: str, value: bool) -> None:
        """Set a flag that the `run_if` of a later step names. It is true if any chunk sets it to true."""
        if self.job.task_id is not None:
            with self.transaction(enqueues=True) as connection:
                TasksRepository(connection).set_flag(self.job.task_id, flag, value)

    def finish(self) -> None:
        """Write the remaining outcomes and the progress. Called when the handler has returned or raised."""
        self.write_outcomes()
        self._progress.write()

    def keep_report(self) -> None:
        """Store the report for the next attempt, which continues it. Called when the job is to be repeated."""
        # Tried once: giving the job back is more important.
        with suppress(StorageError), self._runtime.database.begin() as connection:
            self._store_report(connection)

    def raise_failures(self) -> None:
        """Raise one error for all items and projects that failed, as `Failures.raise_if_any`."""
        self._failures.raise_if_any()

    def _store_report(self, connection: Connection) -> None:
        if self._keeps_report:
            store_report(connection, self.report, claim=self.claim)


def _unexpected(error: BaseException) -> BaseException | None:
    return None if isinstance(error, PhotojobsError | OSError) else error
