"""What can go wrong in storage. Every class is a `PhotojobsError` and says in one sentence when it is raised."""

from __future__ import annotations

from collections.abc import Sequence

from task_definitions.errors import PhotojobsError


class StorageError(PhotojobsError):
    """The parent of everything that storage raises."""


class DatabaseFault(StorageError):
    """The parent of what may pass by itself: the same call may succeed later, and executors wait for that."""


class DatabaseUnavailable(DatabaseFault):
    """The database cannot be opened or reached: a missing folder, a server that does not answer, no SQLite file."""


class UnsuitableEncoding(DatabaseUnavailable):
    """A PostgreSQL database is not encoded in UTF8, and cannot hold every file name."""


class UnsuitablePooler(DatabaseUnavailable):
    """A pooler before PostgreSQL gives one server connection to several clients in turn."""


class DatabaseBusy(DatabaseFault):
    """The database stayed locked for longer than the busy timeout; nothing was written."""


class DatabaseReadOnly(DatabaseFault):
    """The database file or its folder does not allow writing; nothing was written."""


class DiskFull(DatabaseFault):
    """The disk of the database has no room left; the transaction was rolled back whole."""


class SchemaMismatch(StorageError):
    """The database has an older, newer or foreign schema, so this version must not work on it."""


class ConstraintViolated(StorageError):
    """A row broke a rule of its table that no more precise error describes; nothing was written."""


class InvalidValue(StorageError):
    """A value cannot be stored as given, on at least one of the supported databases; nothing was written."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class UnknownProject(StorageError):
    """A project id names no row of `projects`, or one of another tenant."""


class UnknownTag(StorageError):
    """A tag names no row of `tags` of the tenant's projects."""


class UnknownTenant(StorageError):
    """A tenant has no project, no folder in the library and no schedule, so that a run would do nothing."""


class UnknownPhoto(StorageError):
    """A photo id names no row of `photos`, or one of another tenant."""

    def __init__(self, photo_ids: Sequence[int], *, total: int | None = None) -> None:
        count = len(photo_ids) if total is None else total
        shown = ", ".join(str(photo_id) for photo_id in photo_ids[:5]) + (", …" if count > 5 else "")
        noun = "photo id does" if count == 1 else "photo ids do"
        super().__init__(f"items: {count} {noun} not exist for this tenant: {shown}. Nothing was started.")
        self.photo_ids = tuple(photo_ids)


class UnknownJob(StorageError):
    """A job id names no row of `jobs`."""


class UnknownTask(StorageError):
    """A task id names no row of `tasks`."""


class UnknownLane(StorageError):
    """A lane name is not in the table `lanes`."""


class TooManyItems(StorageError):
    """One job was to get more items than a job may have, and chunking was not asked for."""

    def __init__(self, count: int, maximum: int) -> None:
        super().__init__(
            f"items: {count} items are more than the {maximum} that one job may have. "
            "Pass auto_chunk=True to get a list of jobs instead."
        )
        self.count = count
        self.maximum = maximum


class TaskConflict(StorageError):
    """The task is not in a state that allows what was asked, for example retrying a task that still runs."""


class AlreadyRunning(StorageError):
    """A task that must be the only one of its kind was to start while another one is unfinished."""


class CorruptPayload(StorageError):
    """A row's `payload_json` is not a JSON object, so its job cannot be run."""


class CorruptDefinition(StorageError):
    """A row's `tasks.definition_json` does not hold a pinned definition, so its task cannot go on."""
