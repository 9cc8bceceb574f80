"""`StepContext`: all that a handler needs and may do. Everything it writes is bound to the job's claim."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from flows.errors import ClaimLost, ItemsFailed, PermanentStepError, SkipItem, StepTimeout, is_repeatable, reason_of
from flows.handlers.announced_moves import MoveGroup, announce, interrupted, take_back
from flows.handlers.job_report import Report
from flows.handlers.job_targets import JobTargets, TargetItem
from flows.process.job_claim import JobClaim
from flows.process.runtime import Runtime
from storage.database.column_types import MAX_COUNT, check_integer, encode_json
from storage.database.engine import Database
from storage.database.tables import jobs
from storage.errors import InvalidValue, StorageError
from storage.history.journal import FileAction, FileChange, write_journal
from storage.history.row_notes import RowChangesNote
from storage.library.errors import LibraryError
from storage.library.paths import Library, ProjectFolder
from storage.lifecycle.job_items import ItemOutcome, record_outcomes
from storage.lifecycle.state_machine import lock_task
from storage.lifecycle.step_jobs import DEFAULT_TENANT
from storage.queue.project_claims import claim_projects, release_projects
from storage.queue.tasks import TasksRepository
from storage.records import ItemStatus, Job, Project
from storage.settings import Settings
from task_definitions.errors import PhotojobsError
from task_definitions.step_types import step_types

if TYPE_CHECKING:
    from flows.imaging.isolation import ImageProcessing

#: A job that has shown no progress for so long after its start shows that it is at work.
FIRST_PROGRESS_SECONDS = 2.5

#: Progress is written at most so often; the last one always.
PROGRESS_INTERVAL_SECONDS = 1.0

#: Events on items are emitted at most so often, and at the end: an event for each small batch would drown all others.
EVENT_INTERVAL_SECONDS = 1.0

#: A job that lasts longer keeps its report with the outcomes of its items.
KEPT_REPORT_SECONDS = 1.0

#: Outcomes of items are written together when so many have gathered, or when the interval has passed.
OUTCOME_BATCH_SIZE = 200


class StepContext:
    """The job at hand, what it works on, and what its handler may do.

    Attributes:
        job: the claimed row.
        params: the `params` of the step in its definition; empty for standalone jobs.
        report: what the handler did, in numbers and first names.
        logger: a logger that carries task, job and tenant.
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
        self._began_at = time.monotonic()
        self.logger = logger or logging.getLogger(f"photojobs.steps.{claim.job.type}")
        self._runtime = runtime
        self._targets = JobTargets(runtime.database, claim.job)
        self._outcomes: list[ItemOutcome] = []
        self._outcomes_written_at = time.monotonic()
        self._untold: list[ItemOutcome] = []
        self._told_at = time.monotonic()
        self._progress: tuple[int, int | None] | None = None
        self._progress_written_at = 0.0
        self._bar_due_at = time.monotonic() + FIRST_PROGRESS_SECONDS
        self._on_progress = on_progress
        # Not the errors: their tracebacks hold all that the handler's frames held, decoded pictures among it.
        self._first_failure = ""
        self._is_repeatable = False
        self._targets_failed = 0
        self._unsafe_projects: set[int] = set()
        self._targets_tried = 0

    @property
    def _keeps_report(self) -> bool:
        step_type = step_types().get(self.job.type)
        return step_type is not None and step_type.unit == "items"

    @property
    def tenant_id(self) -> str:
        """The tenant whose job this is; nothing of another tenant may be touched."""
        return self.job.tenant_id

    @property
    def payload(self) -> dict[str, Any]:
        """The job's payload."""
        return self.job.payload

    @property
    def database(self) -> Database:
        """The database; write through `transaction`, which heeds the claim."""
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
        """Decoding of images, in processes of its own."""
        return self._runtime.images

    @property
    def targets(self) -> JobTargets:
        """The projects and photos that the job works on."""
        return self._targets

    @property
    def names_photos(self) -> bool:
        """Whether the job has items; a job of its own without any means all photos of its project, or of all projects.

        A task's job always does: that of its photos none is left does not mean the others.
        """
        return self.job.task_id is not None or bool(self.job.progress_total)

    def now(self) -> datetime:
        """The current moment, from the database's clock."""
        return self._runtime.database.clock()

    def checkpoint(self) -> None:
        """Call it before each side effect: returns if the handler may go on.

        Raises:
            ClaimLost: the job was canceled, or rescued and given to another executor.
            StepTimeout: the step's time is over.
            StopRequested: the process is to end.
        """
        self.claim.check()
        if self._on_progress is not None and time.monotonic() >= self._bar_due_at:
            self._bar_due_at = math.inf
            # Shown, not written: the caller may have a transaction open.
            self._on_progress(self.job.progress_done or 0, self.job.progress_total)

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far the job is; written at most once a second.

        Raises:
            InvalidValue: a number is negative, or is too large to be stored.
        """
        check_integer(done, name="done", minimum=0, maximum=MAX_COUNT)
        if total is not None:
            check_integer(total, name="total", minimum=0, maximum=MAX_COUNT)
        self._progress = (done, total)
        if time.monotonic() - self._progress_written_at >= PROGRESS_INTERVAL_SECONDS:
            self._write_progress()

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
        """A transaction on the database that commits only while the claim stands.

        Args:
            enqueues: whether follow-up work is asked for in it.
            durable: whether it must survive a power cut, with all that was committed before, once the block has ended.
            photo_ids: the photos whose rows it may change: of a task, what they said is journaled for an undo.
            columns: the columns of these photos that it may change; by default all, and tags and derivatives as well.
            project_ids: the projects whose rows it may change, likewise.
            remarks: what else an undo has to know of a changed photo, by its id.

        Raises:
            ClaimLost: the job was canceled or given to another executor; nothing was written.
        """
        with self._runtime.database.begin(durable=durable) as connection:
            if enqueues and self.job.task_id is not None:
                # In this order whoever cancels the task locks the rows as well.
                lock_task(connection, self.job.task_id)
            self._check_in(connection)
            if self.job.task_id is None or not (photo_ids or project_ids):
                yield connection
                return
            changes = RowChangesNote(connection, photo_ids=photo_ids, columns=columns, project_ids=project_ids)
            yield connection
            self.journal(connection, changes.take(tenant_id=self.tenant_id, remarks=remarks or {}))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading."""
        with self._runtime.database.connect() as connection:
            yield connection

    def journal(self, connection: Connection, changes: Iterable[FileChange]) -> None:
        """Journal changes of originals, in the transaction of the row change that belongs to them."""
        write_journal(
            connection,
            changes,
            tenant_id=self.tenant_id,
            task_id=self.job.task_id,
            job_id=self.job.id,
            now=self.now(),
        )

    def journal_added(self, connection: Connection, project: Project, photos: Mapping[int, str] | None = None) -> None:
        """Journal rows that a task has added: a project's, or those of its photos, by id with their base names."""
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
        """Whose project it is; rows from before there were tenants belong to the first one."""
        return project.tenant_id or DEFAULT_TENANT

    def folder_of(self, project: Project) -> ProjectFolder:
        """The folder of a project, whether or not it exists."""
        return self.library.project(self.tenant_of(project), project.project_folder)

    def projects(self, *, archived: bool = False) -> list[Project]:
        """The projects that the job works on, in id order: active ones, or with `archived=True` only archived ones.

        A project whose folder's name is not safe, or whose folder is a symlink, is recorded as failed and left out.
        """
        workable: list[Project] = []
        for project in self._targets.projects(archived=archived):
            try:
                self.folder_of(project)
            except LibraryError as error:
                if project.id not in self._unsafe_projects:
                    self._unsafe_projects.add(project.id)
                    self._targets_tried += 1
                    self._note_failed_project(project, error)
            else:
                workable.append(project)
        return workable

    def reload(self, project: Project) -> Project | None:
        """The project as its row is now, or None where it is gone; what was read before a wait may be outdated."""
        return self._targets.reload(project)

    @contextmanager
    def project(self, project: Project) -> Iterator[ProjectFolder]:
        """Work on one project of several: what fails in the block is recorded, and the rest goes on.

        A step type that modifies files holds the project meanwhile, so that no other such step works on it; this
        waits until it is free. The folder is the one that the project has then.

        Raises:
            LibraryError, OSError: moves that were interrupted there could not be taken back, which is recorded.
        """
        self._targets_tried += 1
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

    def _note_failure(self, name: str, error: Exception) -> None:
        self._first_failure = self._first_failure or f"{name}: {reason_of(error)}"
        self._is_repeatable = self._is_repeatable or is_repeatable(error)

    def _note_failed_project(self, project: Project, error: Exception) -> None:
        self._targets_failed += 1
        self._note_failure(project.project_name, error)
        self.report.fail(project.project_name, reason_of(error))
        self.logger.warning("project %s: %s", project.project_name, reason_of(error), exc_info=_unexpected(error))

    @contextmanager
    def exclusively(self, project_ids: Sequence[int]) -> Iterator[None]:
        """Hold projects, all or none, while the block runs; for step types that only read, do nothing.

        A step that needs two projects at once (a move) asks for both in one call: holding one and waiting for another
        could wait for ever. Moves that were interrupted there are taken back first.
        """
        step_type = step_types().get(self.job.type)
        if step_type is not None and not step_type.modifies_files:
            yield
            return
        with self._held(project_ids):
            intents = interrupted(self.database, project_ids)
            if not intents:
                yield
                return
        concerned = {one for intent in intents for one in (intent.project_id, intent.target_project_id)} - {None}
        with self._held(sorted({*project_ids, *(one for one in concerned if one is not None)})):
            count = take_back(self.database, self.library, interrupted(self.database, project_ids))
            self.report.count("interrupted moves taken back", count)
            yield

    @contextmanager
    def _held(self, project_ids: Sequence[int]) -> Iterator[None]:
        database = self._runtime.database
        while not claim_projects(
            database,
            project_ids,
            job_id=self.job.id,
            claim_token=self.claim.token,
            stale_seconds=self.settings.stale_seconds,
        ):
            self.checkpoint()
            self.claim.lost.wait(self.settings.poll_seconds)
        try:
            yield
        finally:
            release_projects(database, project_ids, job_id=self.job.id, claim_token=self.claim.token)

    def announce(self, groups: Sequence[MoveGroup]) -> None:
        """Write to disk which files are about to move, before the first does; see `flows.handlers.announced_moves`."""
        self.checkpoint()
        announce(self.database, groups, job=self.job, library=self.library, now=self.now())

    def item_batches(self, *, size: int = OUTCOME_BATCH_SIZE) -> Iterator[list[TargetItem]]:
        """The job's open items with their photos and projects, a batch at a time, one query for each.

        Items whose photo is gone, or whose project is archived or another tenant's, are recorded and left out. The
        outcomes of a batch are written before the next one comes.
        """
        for batch, left_out in self._targets.open_items(size=size):
            self._outcomes += left_out
            for outcome in left_out:
                self.report.count(str(outcome.status), example=f"item {outcome.item_id}: {outcome.message}")
                if outcome.status == ItemStatus.FAILED:
                    self._targets_failed += 1
                    self._note_failure(f"item {outcome.item_id}", PermanentStepError(outcome.message or ""))
            self._targets_tried += len(left_out)
            if batch:
                yield batch
            self.write_outcomes()

    @contextmanager
    def item(self, item: TargetItem) -> Iterator[None]:
        """Work on one item: it ends as done, or as failed with the reason while the rest goes on.

        Raise `SkipItem` in the block to have it end as skipped, and `PermanentStepError` for a failure that no
        repetition mends.
        """
        self.checkpoint()
        self._targets_tried += 1
        try:
            with self.report.timing(item.name):
                yield
        except SkipItem as error:
            self._outcomes.append(ItemOutcome(item.id, ItemStatus.SKIPPED, reason_of(error)))
            self.report.count("skipped", example=f"{item.name}: {reason_of(error)}")
        except StepTimeout:
            raise
        except Exception as error:
            self._targets_failed += 1
            self._note_failure(item.name, error)
            self._outcomes.append(ItemOutcome(item.id, ItemStatus.FAILED, reason_of(error), type(error).__name__))
            self.report.fail(item.name, reason_of(error))
            self.logger.warning("%s: %s", item.name, reason_of(error), exc_info=_unexpected(error))
        else:
            self._outcomes.append(ItemOutcome(item.id, ItemStatus.DONE))
        if (
            len(self._outcomes) >= OUTCOME_BATCH_SIZE
            or time.monotonic() - self._outcomes_written_at >= PROGRESS_INTERVAL_SECONDS
        ):
            self.write_outcomes()

    def write_outcomes(self) -> None:
        """Write what became of the items so far, and the progress, in one transaction."""
        self._outcomes_written_at = time.monotonic()
        if not self._outcomes:
            return
        # What has been done is not lost over a database that is away for a moment.
        done = self.claim.insist(self._record_outcomes)
        self._untold += self._outcomes
        self._outcomes = []
        if time.monotonic() - self._told_at >= EVENT_INTERVAL_SECONDS:
            self.tell_of_items()
        self.progress(done, self.job.progress_total)

    def tell_of_items(self) -> None:
        """Emit one event on the items whose outcomes were written since the last one."""
        self._told_at = time.monotonic()
        if self._untold:
            self._runtime.events.items_recorded(self.job, self._untold)
            self._untold = []

    def enqueue(
        self,
        type: str,
        *,
        photo_ids: Iterable[int],
        priority: int,
        payload: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Ask for follow-up work on photos, to be done after the last step of this job's task.

        Asked for twice (by another chunk, or by a repetition of this job) it is done once. For a job without a task
        the follow-up is a job of its own.

        Args:
            type: the step type that does the work.
            photo_ids: the photos.
            priority: of the follow-up jobs.
            payload: of the follow-up jobs.
            connection: of `ctx.transaction(enqueues=True)`, where the request is to stand or fall with other changes.
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
        """Set a flag that a later step's `run_if` names; true from any chunk wins."""
        if self.job.task_id is not None:
            with self.transaction(enqueues=True) as connection:
                TasksRepository(connection).set_flag(self.job.task_id, flag, value)

    def finish(self) -> None:
        """Write what is left to be written; called when the handler has returned or raised."""
        self.write_outcomes()
        if self._progress is not None:
            self._write_progress()

    def keep_report(self) -> None:
        """Have the next attempt go on with this report; called when the job is to be repeated."""
        # Tried once: to give the job back matters more.
        with suppress(StorageError), self._runtime.database.begin() as connection:
            self._keep_report(connection)

    def raise_failures(self) -> None:
        """Raise what the failures of single items and projects amount to, if there were any.

        Raises:
            ItemsFailed: some failed, and a repetition may mend at least one of them.
            PermanentStepError: some failed, and no repetition mends any.
        """
        if not self._targets_failed:
            return
        message = f"{self._targets_failed} of {self._targets_tried} failed; first {self._first_failure}"
        if not self._is_repeatable:
            raise PermanentStepError(message)
        raise ItemsFailed(message)

    def _write_progress(self) -> None:
        if self._progress is None:
            return
        done, total = self._progress
        values: dict[str, Any] = {"progress_done": done, "updated_at": self.now()}
        if total is not None:
            values["progress_total"] = total
        mine = (jobs.c.id == self.job.id, jobs.c.claim_token == self.claim.token, jobs.c.status == "running")

        def write() -> int:
            with self._runtime.database.begin() as connection:
                return connection.execute(jobs.update().where(*mine).values(values)).rowcount

        if self.claim.insist(write) == 0:
            self.claim.lost.set()
        self._progress_written_at = time.monotonic()
        self._bar_due_at = math.inf
        if self._on_progress is not None:
            self._on_progress(done, total)

    def _record_outcomes(self) -> int:
        with self.transaction() as connection:
            record_outcomes(connection, self._outcomes, now=self.now())
            if time.monotonic() - self._began_at >= KEPT_REPORT_SECONDS:
                # With the outcomes: another attempt does not do these items again, and could not count them.
                self._keep_report(connection)
            return self._targets.count_closed_items(connection)

    def _keep_report(self, connection: Connection) -> None:
        if self._keeps_report:
            result = self.report.to_json()
            try:
                encode_json(result)
            except InvalidValue:
                # The end of the job says what cannot be stored.
                return
            own = (jobs.c.id == self.job.id, jobs.c.claim_token == self.claim.token)
            connection.execute(jobs.update().where(*own).values(result_json=result))

    def _check_in(self, connection: Connection) -> None:
        statement = (
            select(jobs.c.id)
            .where(jobs.c.id == self.job.id, jobs.c.claim_token == self.claim.token, jobs.c.status == "running")
            .with_for_update()
        )
        if connection.execute(statement).first() is None:
            self.claim.lost.set()
            raise ClaimLost(f"job {self.job.id}: was canceled or given to another executor")


def _unexpected(error: BaseException) -> BaseException | None:
    return None if isinstance(error, PhotojobsError | OSError) else error
