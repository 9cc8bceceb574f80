"""The records that repositories return: frozen, with the columns of their table as attributes.

A payload or flags that are not a JSON object raise `CorruptPayload` when they are read. A job with such a payload fails
without another attempt (`flows.errors`). A task with such a payload or flags fails (`storage.lifecycle.state_machine`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import RowMapping

from storage.errors import CorruptPayload
from task_definitions.wording import shown


class JobStatus(StrEnum):
    """The status of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, so that only a requeue or a retry changes this status."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


#: A task has the same statuses as a job.
TaskStatus = JobStatus


class ItemStatus(StrEnum):
    """The status of an item; `pending` and `running` are not final."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


#: For each field of a record, the index of its value in the driver's row and the function that converts the value.
Readers = Mapping[str, tuple[int, Callable[[Any], Any] | None]]


class Record:
    """A row of a table. Columns without a field in the class are ignored, so that a newer schema stays readable.

    Subclasses are frozen dataclasses with slots.
    """

    __slots__ = ("_unread",)

    @classmethod
    def from_row(cls, row: RowMapping | Mapping[str, Any]) -> Self:
        """Return the record of a row, which must have a column for each field of this class."""
        record = object.__new__(cls)
        for name, set_value in _setters_of(cls):
            set_value(record, row[name])
        return record

    @classmethod
    def from_driver(cls, values: Sequence[Any], readers: Readers) -> Self:
        """Return the record of a row as the database driver gives it; each value is converted when it is first used."""
        record = object.__new__(cls)
        _set_unread(record, (values, readers))
        return record

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Python calls this method only for names without a value, such as a field whose slot is still empty.
            readers = {} if name == "_unread" else getattr(self, "_unread", ((), {}))[1]
            if name not in readers:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            index, read = readers[name]
            value = self._unread[0][index]
            if value is not None and read is not None:
                value = read(value)
            object.__setattr__(self, name, value)
            return value


_set_unread = Record.__dict__["_unread"].__set__

#: The setters of a record's slots. The `__init__` of a frozen dataclass would take three times as long.
_Setters = tuple[tuple[str, Callable[[Any, Any], None]], ...]

_known_setters: dict[type[Record], _Setters] = {}


def _setters_of(record: type[Any]) -> _Setters:
    if record not in _known_setters:
        _known_setters[record] = tuple((field.name, getattr(record, field.name).__set__) for field in fields(record))
    return _known_setters[record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Record):
    """A row of `jobs`: one step of one task, one chunk of the step's items, or a standalone piece of work."""

    id: int
    tenant_id: str
    project_id: int | None
    type: str
    status: str
    scope: str
    priority: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    progress_total: int | None
    progress_done: int | None
    payload_json: Any
    error_message: str | None
    last_error_at: datetime | None
    worker_id: str | None
    heartbeat_at: datetime | None
    attempts: int
    max_attempts: int | None
    task_id: str | None
    task_type: str | None
    step_index: int | None
    chunk_index: int | None
    total_chunks: int | None
    run_after: datetime | None
    claim_token: str | None
    flow_run_id: str | None
    unique_key: str | None
    held_by: str | None
    result_json: Any

    @property
    def payload(self) -> dict[str, Any]:
        """The parsed `payload_json`; empty if it is NULL.

        Raises:
            CorruptPayload: another program wrote a value that is not a JSON object.
        """
        return _object(
            self.payload_json,
            f"job {self.id}: payload_json",
            f"; if the job failed, `photojobs jobs retry {self.id}` queues it again.",
        )

    @property
    def result(self) -> dict[str, Any]:
        """The result of the job's last run, as the handler stored it; empty if there is none."""
        return self.result_json if isinstance(self.result_json, dict) else {}

    @property
    def report(self) -> dict[str, Any]:
        """The parts of `result` that handlers of photojobs report, such as counts.

        Values of other types than in `_REPORT_PARTS`, which other programs may have written, are left out.
        """
        return read_report(self.result_json)

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobItem(Record):
    """A row of `job_items`: one photo of a job."""

    id: int
    tenant_id: str
    job_id: int
    photo_id: int | None
    filename: str | None
    status: str
    message: str | None
    created_at: datetime
    updated_at: datetime
    attempts: int
    error_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Record):
    """A row of `tasks`: one run of a definition, with the definition as it was at the start."""

    id: str
    tenant_id: str
    type: str
    label: str
    scope: str
    project_id: int | None
    status: str
    source: str
    priority: int
    step_index: int
    item_count: int | None
    definition_json: dict[str, Any]
    payload_json: Any
    flags_json: Any
    error_message: str | None
    flow_run_id: str | None
    attended_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime

    @property
    def payload(self) -> dict[str, Any]:
        """The payload that the task was started with; empty if there was none.

        Raises:
            CorruptPayload: another program wrote a value that is not a JSON object.
        """
        return _object(self.payload_json, f"task {self.id}: payload_json", ", or start a new task.")

    @property
    def flags(self) -> dict[str, bool]:
        """The flags that steps have set, for the `run_if` of later steps.

        Raises:
            CorruptPayload: another program wrote a value that is not a JSON object.
        """
        return _object(self.flags_json, f"task {self.id}: flags_json", ", or start a new task.")

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(Record):
    """A row of `projects`."""

    id: int
    tenant_id: str | None
    project_folder: str
    project_name: str
    created_at: datetime
    updated_at: datetime
    schema_version: str | None
    status: str | None
    archived_at: datetime | None
    manifest_version: str | None

    @property
    def is_archived(self) -> bool:
        """Whether the project is archived. Most steps do not process archived projects."""
        return self.status == "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo(Record):
    """A row of `photos`; `filename` is the base name without extension."""

    id: int
    project_id: int
    manifest_id: str | None
    filename: str
    basename: str | None
    ext: str | None
    created_at: datetime
    updated_at: datetime
    date_time_original: str | None
    jpg_available: int
    raw_available: int
    other_available: int
    keep_jpg: int
    keep_raw: int
    thumbnail_status: str | None
    preview_status: str | None
    orientation: int | None
    meta_json: Any
    visibility: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane(Record):
    """A row of `lanes`: a range of priorities, both ends inclusive, with a number of slots (None is no limit)."""

    name: str
    min_priority: int
    max_priority: int
    slots: int | None
    aging_seconds: int | None
    fair_tenants: int

    @property
    def is_plain(self) -> bool:
        """Whether priority and creation time alone decide the order of the lane's jobs, without aging and fairness."""
        return self.aging_seconds is None and not self.fair_tenants

    def covers(self, priority: int) -> bool:
        """Return whether jobs of this priority belong to the lane."""
        return self.min_priority <= priority <= self.max_priority


#: The parts of a report that have values by name, with the type of the values.
_REPORT_PARTS: Mapping[str, Any] = {
    "counts": int | float,
    "examples": list,
    "projects": dict,
    "errors": str,
    "left": str,
}


def read_report(result_json: Any) -> dict[str, Any]:
    """Return the report in a `result_json`; see `Job.report`."""
    if not isinstance(result_json, dict):
        return {}
    report = {name: _of_type(result_json[name], kind) for name, kind in _REPORT_PARTS.items() if name in result_json}
    for name, examples in report.get("examples", {}).items():
        report["examples"][name] = [example for example in examples if isinstance(example, str)]
    for name, counts in report.get("projects", {}).items():
        report["projects"][name] = _of_type(counts, _REPORT_PARTS["counts"])
    return report


def _of_type(part: Any, kind: Any) -> dict[str, Any]:
    return {name: value for name, value in part.items() if isinstance(value, kind)} if isinstance(part, dict) else {}


def _object(value: Any, place: str, advice: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CorruptPayload(
            f"{place} is not a JSON object: {shown(value)}. Set this column by SQL to an object, such as {{}}{advice}"
        )
    return value
