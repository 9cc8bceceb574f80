"""The errors of storage. Every class is a `PhotojobsError`; its docstring names the cause."""

from collections.abc import Sequence

from task_definitions.errors import PhotojobsError


class StorageError(PhotojobsError):
    """The parent of all storage errors."""


class DatabaseFault(StorageError):
    """The parent of temporary errors of the database. The same call may succeed later; executors wait and try again."""


class DatabaseUnavailable(DatabaseFault):
    """The database cannot be opened or reached, for example because its folder is missing or its server is down."""


class UnsuitableEncoding(DatabaseUnavailable):
    """The encoding of a PostgreSQL database is not UTF8, so it cannot store every file name."""


class UnsuitablePooler(DatabaseUnavailable):
    """A pooler in front of PostgreSQL shares one server connection among several clients."""


class DatabaseBusy(DatabaseFault):
    """The database stayed locked for longer than the busy timeout; nothing was written."""


class DatabaseReadOnly(DatabaseFault):
    """The database file or its folder does not allow writing; nothing was written."""


class DiskFull(DatabaseFault):
    """The disk of the database is full; the transaction was rolled back."""


class SchemaMismatch(StorageError):
    """The database has an older or newer schema, or the schema of another program; this version must not use it."""


class ConstraintViolated(StorageError):
    """A row would violate a constraint of its table, and no other error class fits better; nothing was written."""


class InvalidValue(StorageError):
    """A value is not valid, or at least one of the supported databases cannot store it; nothing was written."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class UnknownProject(StorageError):
    """A project does not exist or belongs to another tenant."""


class ArchivedProject(StorageError):
    """A task names an archived project, but its steps work only on active projects."""


class UnknownTag(StorageError):
    """No project of the tenant has the tag."""


class UnknownTenant(StorageError):
    """A tenant has neither a project nor a folder in the library, so that a run would do nothing."""


class UnknownPhoto(StorageError):
    """A photo does not exist or belongs to another tenant."""

    def __init__(self, photo_ids: Sequence[int], *, total: int | None = None) -> None:
        count = len(photo_ids) if total is None else total
        shown = ", ".join(str(photo_id) for photo_id in photo_ids[:5]) + (", …" if count > 5 else "")
        noun, them = ("photo id does", "it") if count == 1 else ("photo ids do", "them")
        super().__init__(
            f"items: {count} {noun} not exist for this tenant: {shown}. Nothing was started. Leave {them} out."
        )
        self.photo_ids = tuple(photo_ids)


class UnknownJob(StorageError):
    """A job does not exist."""


class UnknownTask(StorageError):
    """A task does not exist."""


class UnknownLane(StorageError):
    """A lane does not exist."""


class TooManyItems(StorageError):
    """More items were given than one job may have, and `auto_chunk`, which makes several jobs, was not set."""

    def __init__(self, count: int, maximum: int) -> None:
        super().__init__(
            f"items: {count} items are more than the {maximum} that one job may have. "
            "Pass auto_chunk=True to get a list of jobs instead."
        )
        self.count = count
        self.maximum = maximum


class TaskConflict(StorageError):
    """The task's status does not allow the operation, for example a retry while the task still runs."""


class AlreadyRunning(StorageError):
    """A task cannot start because another task of its definition is unfinished, and the two must not run together."""


class CorruptPayload(StorageError):
    """The `payload_json` or `flags_json` of a row is not a JSON object, so its job or task cannot continue."""


class CorruptDefinition(StorageError):
    """`tasks.definition_json` of a task cannot be read as a definition, so the task cannot continue."""
