"""The step `verify_originals`: it reads originals again and compares their contents with the stored hashes.

It never changes, repairs or moves a file. `storage.photos.verification` decides which originals are read first.
`deployments.library.accepted_originals` accepts a corrupt original.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from flows.errors import PermanentStepError, reason_of
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.imaging.errors import ImageMissing, ImagingError
from flows.imaging.fingerprint import Fingerprint, SourceReading
from flows.steps.images.observation import fingerprint_of, first_seen, is_other, with_fingerprint
from flows.steps.images.photo_processing import BATCH_SIZE, WRITE_SECONDS, answers_and_pauses
from flows.steps.targets.target_projects import skip_missing_folder
from storage.batches import batched
from storage.comparison.derivative_scan import DerivativeScan, mark_changed
from storage.database.temporary_tables import BATCH_SIZE as SCAN_BATCH_SIZE
from storage.database.temporary_tables import temporary_tables
from storage.library.errors import LibraryError
from storage.library.paths import ProjectFolder
from storage.library.scan import look_at, scan
from storage.photos.originals import Original
from storage.photos.projects import ProjectsRepository
from storage.photos.verification import VerificationRepository, Verified
from storage.records import Project

#: The kind under which the report counts an original that was not verified, because it changed while it was read.
_CHANGED = "changed while they were read"

#: How long a thread that waits for the rate limit sleeps before it checks the claim again.
_NAP_SECONDS = 0.25


@step("verify_originals", unit="projects", modifies_files=False)
def verify_originals(ctx: StepContext) -> None:
    """Read originals again, the least recently read first, and find corrupt originals."""
    ctx.library.check_available()
    pace = _Pace(ctx)
    available = _take_up_unknown(ctx)
    _Verification(ctx, pace, available).run()


def _take_up_unknown(ctx: StepContext) -> set[int]:
    """Insert the rows of originals without a row, and return the ids of the projects whose folders are available."""
    available: set[int] = set()
    with ctx.read() as connection, temporary_tables(connection):
        staged = DerivativeScan(connection)
        for project in ctx.projects():
            ctx.checkpoint()
            with suppress(LibraryError, OSError), ctx.project(project) as folder:
                if skip_missing_folder(ctx, project, folder):
                    continue
                available.add(project.id)
                staged.begin(project.id)
                for files in batched(scan(folder), SCAN_BATCH_SIZE):
                    ctx.checkpoint()
                    staged.add_originals(files)
                for names in staged.unknown():
                    seen = [(photo_id, look_at(folder, name)) for photo_id, name in names]
                    ctx.checkpoint()
                    with ctx.transaction() as own:
                        VerificationRepository(own).enter(
                            [first_seen(photo_id, file) for photo_id, file in seen if file and file.problem is None]
                        )
    return available


class _Pace:
    """The limits of a run: `bytes_per_run` and `megabytes_per_second`. The value 0 means no limit.

    If the job is repeated, only the rest of `bytes_per_run` may be read.

    Raises:
        PermanentStepError: a limit is not a finite number, or is negative.
    """

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._budget_bytes = self._limit("bytes_per_run")
        self._bytes_per_second = self._limit("megabytes_per_second") * 1e6
        self._lock = threading.Lock()
        self._due_at = 0.0
        repository = VerificationRepository(ctx.database)
        since = ctx.job.created_at
        self._taken_bytes = repository.read_since(tenant_id=ctx.tenant_id, since=since)
        to_read = self._taken_bytes + repository.to_read(tenant_id=ctx.tenant_id, before=since)
        self._total_bytes = min(to_read, self._budget_bytes) if self._budget_bytes else to_read
        self._read_bytes = self._taken_bytes

    @property
    def threads(self) -> int | None:
        """The number of threads that read, or None for the default number.

        It is 1 if there is a rate limit, because one thread is then fast enough.
        """
        return 1 if self._bytes_per_second else None

    def take(self, size_bytes: int) -> bool:
        """Subtract a file's size from the rest of `bytes_per_run`; return False if the rest is too small.

        The first file is always accepted.
        """
        if self._budget_bytes and self._taken_bytes and self._taken_bytes + size_bytes > self._budget_bytes:
            return False
        self._taken_bytes += size_bytes
        return True

    def read(self, size_bytes: int) -> None:
        """Count bytes that were read, and wait for the rate limit. Raises the errors of `StepContext.checkpoint`."""
        with self._lock:
            self._read_bytes += size_bytes
            due_at = 0.0
            if self._bytes_per_second:
                due_at = self._due_at = max(self._due_at, time.monotonic()) + size_bytes / self._bytes_per_second
        self._ctx.claim.check()
        while (nap := due_at - time.monotonic()) > 0:
            self._ctx.claim.lost.wait(min(nap, _NAP_SECONDS))
            self._ctx.claim.check()

    def report(self) -> None:
        """Report the progress, in megabytes."""
        total = max(self._total_bytes, self._read_bytes)
        self._ctx.progress(self._read_bytes // 1_000_000, int(total // 1_000_000))

    def _limit(self, name: str) -> float:
        value = self._ctx.payload.get(name, self._ctx.params.get(name, 0))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise PermanentStepError(
                f"{name}: {value!r} is not allowed. In the payload or in the step's params, give a number from 0 on; "
                "0 means no limit."
            )
        return value


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An original to be read, with its row, its path and its current size."""

    original: Original
    known: Fingerprint
    path: Path
    project: Project
    size_bytes: int

    @property
    def name(self) -> str:
        return f"{self.project.project_folder}/{self.original.name}"


@dataclass(frozen=True, slots=True)
class _Finding:
    """The result of reading an original: the name of its count in the report, its new row, and any failure.

    `failure` is the rest of a message that begins with the name of the original.
    """

    wanted: _Wanted
    what: str
    after: Original
    failure: str | None = None
    is_same: bool = False

    @property
    def verified(self) -> Verified:
        return Verified(before=self.wanted.original, after=self.after, is_same=self.is_same)


class _Verification:
    """Reads the originals of the projects with the ids `available`, and writes the results in batches."""

    def __init__(self, ctx: StepContext, pace: _Pace, available: set[int]) -> None:
        self._ctx = ctx
        self._pace = pace
        self._available = available
        self._now = ctx.now()
        self._found: list[_Finding] = []
        self._failures = 0
        self._first_failure = ""
        self._has_corrupt = False

    def run(self) -> None:
        """Read originals until `bytes_per_run` is used up.

        Raises:
            PermanentStepError: an original is corrupt, or cannot be read.
        """
        written_at = time.monotonic()
        answers = answers_and_pauses(self._ctx, self._wanted(), self._read, threads=self._pace.threads)
        for answer in answers:
            if answer is not None:
                self._judge(*answer)
            if len(self._found) >= BATCH_SIZE or time.monotonic() - written_at >= WRITE_SECONDS:
                self._write()
                written_at = time.monotonic()
        self._write()
        if self._failures:
            more = f" Failures of other originals: {self._failures - 1}." if self._failures > 1 else ""
            hint = " `photojobs library verify` lists all corrupt originals." if self._has_corrupt else ""
            raise PermanentStepError(f"{self._first_failure}{more}{hint}")

    def _wanted(self) -> Iterator[_Wanted]:
        for page in VerificationRepository(self._ctx.database).oldest(before=self._ctx.job.created_at):
            self._ctx.checkpoint()
            self._now = self._ctx.now()
            projects = self._projects({project_id for project_id, _ in page} & self._available)
            for project_id, original in page:
                if project_id not in projects or project_id not in self._available:
                    continue
                try:
                    wanted = self._find(*projects[project_id], original)
                except LibraryError as error:
                    self._ctx.report.count("skipped", example=str(error))
                    continue
                if wanted is not None:
                    if not self._pace.take(wanted.size_bytes):
                        return
                    yield wanted

    def _projects(self, ids: set[int]) -> dict[int, tuple[Project, ProjectFolder]]:
        """Return the active projects among `ids` with their current folders. Unusable folders are left out."""
        found: dict[int, tuple[Project, ProjectFolder]] = {}
        rows = ProjectsRepository(self._ctx.database).list(
            tenant_id=self._ctx.tenant_id, archived=False, ids=sorted(ids)
        )
        for project in rows:
            try:
                found[project.id] = (project, self._ctx.folder_of(project))
            except LibraryError as error:
                self._ctx.report.count("skipped", example=f"{project.project_name}: {error}")
        return found

    def _find(self, project: Project, folder: ProjectFolder, original: Original) -> _Wanted | None:
        known = fingerprint_of(original)
        file = None if known is None else look_at(folder, original.name)
        if known is None or (file is not None and file.problem is not None):
            reason = "derivative_validation has not recorded its size and time yet" if file is None else file.problem
            self._ctx.report.count("skipped", example=f"{original.name}: {reason}")
        elif file is not None:
            return _Wanted(original, known, folder.original(original.name), project, file.size_bytes)
        elif not self._has_gone(project, folder):
            self._ctx.report.count("missing", example=f"{project.project_folder}/{original.name}")
        return None

    def _has_gone(self, project: Project, folder: ProjectFolder) -> bool:
        """Return whether the project has become unavailable since the step began, for example because of its disk."""
        if folder.manifest_path.exists():
            return False
        self._available.discard(project.id)
        with suppress(LibraryError, OSError), self._ctx.project(project):
            if not skip_missing_folder(self._ctx, project, folder):
                self._available.add(project.id)
        return project.id not in self._available

    def _read(self, wanted: _Wanted) -> SourceReading | Exception | None:
        try:
            return self._ctx.images.read_source(wanted.path, wanted.known, on_bytes=self._pace.read)
        except (ImagingError, OSError) as error:
            return error

    def _judge(self, wanted: _Wanted, reading: SourceReading | Exception | None) -> None:
        """Compute the new row of an original from its contents, and add the row to the next batch.

        An original that is missing or changed while it was read is only counted.
        """
        before, name, now = wanted.original, wanted.name, self._now
        if reading is None:
            self._ctx.report.count("originals to be read", example=name)
        elif isinstance(reading, ImageMissing):
            self._ctx.report.count("missing", example=name)
        elif isinstance(reading, Exception):
            failure = f"cannot be verified: {reason_of(reading).rstrip('.')}."
            self._found.append(_Finding(wanted, "unreadable", replace(before, checked_at=now), failure))
        elif (found := reading.fingerprint).content_hash is None:
            self._ctx.report.count(_CHANGED, example=name)
        elif reading.is_same is None:
            self._found.append(_Finding(wanted, "hashed for the first time", with_fingerprint(before, found, now=now)))
        elif reading.is_same:
            after = with_fingerprint(replace(before, content_hash=found.content_hash), found, now=now)
            what = "verified" if before.corrupt_since is None else "intact again"
            self._found.append(_Finding(wanted, what, after, is_same=True))
        elif found.content_hash == before.corrupt_hash or wanted.known.is_of(
            size_bytes=found.size_bytes, mtime_ns=found.mtime_ns, ctime_ns=found.ctime_ns or 0
        ):
            after = _corrupt(before, found, now=now)
            self._found.append(_Finding(wanted, "corrupt", after, _corruption(before)))
        else:
            self._found.append(_Finding(wanted, "edited", with_fingerprint(before, found, now=now)))

    def _write(self) -> None:
        found, self._found = self._found, []
        self._pace.report()
        if not found:
            return
        self._ctx.checkpoint()
        with self._ctx.transaction() as connection:
            written = VerificationRepository(connection).write([one.verified for one in found])
            changed = [one.after for one in written if not one.is_same and is_other(one.before, one.after)]
            mark_changed(connection, changed, now=self._now)
        for one in found:
            self._ctx.report.enter_project(one.wanted.project.project_name)
            is_written = one.verified in written
            self._ctx.report.count(one.what if is_written else _CHANGED, example=one.wanted.name)
            if is_written and one.failure is not None:
                self._ctx.report.fail(one.wanted.name, one.failure)
                self._failures += 1
                self._first_failure = self._first_failure or f"{one.wanted.name} {one.failure}"
                self._has_corrupt |= one.what == "corrupt"
            self._ctx.report.enter_project(None)


def _corrupt(before: Original, found: Fingerprint, *, now: datetime) -> Original:
    return replace(
        before,
        size_bytes=found.size_bytes,
        mtime_ns=found.mtime_ns,
        ctime_ns=found.ctime_ns,
        checked_at=now,
        corrupt_since=before.corrupt_since or now,
        corrupt_hash=found.content_hash,
    )


def _corruption(before: Original) -> str:
    last_right_at = before.verified_at or before.hashed_at
    intact = "" if last_right_at is None else f"It was last intact on {last_right_at:%Y-%m-%d at %H:%M} UTC. "
    return f"is corrupt: its contents have changed, but not its size and times. {intact}Restore it from a backup."
