"""The rules for the rows of our tables: each rule is a condition that no row may meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from storage.database.column_types import UtcTimestamp
from storage.database.tables import metadata
from task_definitions import MAX_ITEMS_PER_JOB


class Severity(StrEnum):
    """How serious a finding is: an `error` must be corrected, a `warning` is unusual but harmless."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition on the rows of a table that means something is wrong.

    Attributes:
        name: for programs; never changes.
        columns: the columns that the condition reads; the rule is skipped if an older file lacks one of them.
        tables: other tables that the condition reads.
        condition: SQL for both databases, unless `dialect` names one of them.
        problem: what is wrong with such rows; it follows their number in the message.
        remedy: what to do.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    condition: str
    problem: str
    remedy: str
    severity: Severity = Severity.ERROR
    tables: tuple[str, ...] = ()
    dialect: str | None = None


_JOB_STATUSES = "('queued', 'running', 'completed', 'failed', 'canceled')"
_UNFINISHED = "('queued', 'running')"
_ENDED = "('completed', 'failed', 'canceled')"
_ITEM_STATUSES = "('pending', 'running', 'done', 'failed', 'skipped')"
_SCOPES = "('project', 'photo_set', 'global')"
_CANCEL = "Cancel them (`JobsRepository.cancel`), or correct the rows by SQL."
_REQUEUE = "Queue them again (`JobsRepository.requeue`)."
_CORRECT = "Correct the rows by SQL, after `photojobs db backup`."


def rules_of_rows() -> Iterator[Rule]:
    """Every rule for rows of our own tables."""
    yield from _JOB_RULES
    yield from _ITEM_RULES
    yield from _TASK_RULES
    yield from _PHOTO_RULES
    yield from _reference_rules()
    yield from _timestamp_rules()
    yield from _document_rules()


_JOB_RULES = (
    Rule(
        name="unknown_job_status",
        table="jobs",
        columns=("status",),
        condition=f"status NOT IN {_JOB_STATUSES}",
        problem="jobs have a status that does not exist, so nothing ever runs or ends them",
        remedy=_CORRECT,
    ),
    Rule(
        name="running_without_worker",
        table="jobs",
        columns=("status", "worker_id"),
        condition="status = 'running' AND worker_id IS NULL",
        problem="jobs are running without a worker id",
        remedy=_REQUEUE,
    ),
    Rule(
        name="unfinished_but_finished_at",
        table="jobs",
        columns=("status", "finished_at"),
        condition=f"status IN {_UNFINISHED} AND finished_at IS NOT NULL",
        problem="jobs have not ended, but have a moment of their end",
        remedy=_REQUEUE,
    ),
    Rule(
        name="ended_without_finished_at",
        table="jobs",
        columns=("status", "finished_at"),
        condition=f"status IN {_ENDED} AND finished_at IS NULL",
        problem="jobs have ended without a moment of their end, so they are never pruned",
        remedy=_CORRECT,
    ),
    Rule(
        name="unknown_scope",
        table="jobs",
        columns=("scope",),
        condition=f"scope IS NULL OR scope NOT IN {_SCOPES}",
        problem="jobs have a scope that does not exist",
        remedy=_CORRECT,
    ),
    Rule(
        name="project_scope_without_project",
        table="jobs",
        columns=("scope", "project_id", "status"),
        condition=f"scope = 'project' AND project_id IS NULL AND status IN {_UNFINISHED}",
        problem="unfinished jobs of the scope project have no project",
        remedy=_CANCEL,
    ),
    Rule(
        name="global_scope_with_project",
        table="jobs",
        columns=("scope", "project_id"),
        condition="scope = 'global' AND project_id IS NOT NULL",
        problem="jobs of the scope global have a project",
        remedy=_CANCEL,
    ),
    Rule(
        name="too_many_items",
        table="jobs",
        columns=("id",),
        tables=("job_items",),
        # One pass, because older files need not have an index on job_id.
        condition=f"""id IN (
            SELECT job_id FROM job_items GROUP BY job_id HAVING count(*) > {MAX_ITEMS_PER_JOB})""",
        problem=f"jobs have more than {MAX_ITEMS_PER_JOB} items",
        remedy="Cancel them, and start the work again in chunks (auto_chunk).",
    ),
    Rule(
        name="unfinished_job_without_task",
        table="jobs",
        columns=("task_id", "status"),
        tables=("tasks",),
        condition=f"""status IN {_UNFINISHED} AND task_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = jobs.task_id)""",
        problem="unfinished jobs belong to a task that does not exist, so no step follows them",
        remedy=_CANCEL,
    ),
    Rule(
        name="ended_job_without_task",
        table="jobs",
        columns=("task_id", "status"),
        tables=("tasks",),
        condition=f"""status IN {_ENDED} AND task_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = jobs.task_id)""",
        problem="ended jobs belong to a task that does not exist any more",
        remedy="Nothing needs to be done.",
        severity=Severity.WARNING,
    ),
)

_ITEM_RULES = (
    Rule(
        name="unknown_item_status",
        table="job_items",
        columns=("status",),
        condition=f"status NOT IN {_ITEM_STATUSES}",
        problem="items have a status that does not exist, so no run of their job takes them",
        remedy=_CORRECT,
    ),
)

_TASK_RULES = (
    Rule(
        name="unknown_task_status",
        table="tasks",
        columns=("status",),
        condition=f"status NOT IN {_JOB_STATUSES}",
        problem="tasks have a status that does not exist",
        remedy=_CORRECT,
    ),
    Rule(
        name="unfinished_task_without_jobs",
        table="tasks",
        columns=("status",),
        tables=("jobs",),
        condition=f"""status IN {_UNFINISHED} AND NOT EXISTS (
            SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id AND jobs.status IN {_UNFINISHED})""",
        problem="tasks have not ended, although all of their jobs have",
        remedy="`photojobs up` or `photojobs worker` continues them.",
        severity=Severity.WARNING,
    ),
    Rule(
        name="ended_task_with_jobs",
        table="tasks",
        columns=("status",),
        tables=("jobs",),
        condition=f"""status IN {_ENDED} AND EXISTS (
            SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id AND jobs.status IN {_UNFINISHED})""",
        problem="tasks have ended, but some of their jobs have not",
        remedy="Cancel those jobs, or retry the task: `photojobs retry TASK_ID`.",
    ),
    Rule(
        name="unfinished_task_but_finished_at",
        table="tasks",
        columns=("status", "finished_at"),
        condition=f"status IN {_UNFINISHED} AND finished_at IS NOT NULL",
        problem="tasks have not ended, but have a moment of their end",
        remedy=_CORRECT,
    ),
    Rule(
        name="ended_task_without_finished_at",
        table="tasks",
        columns=("status", "finished_at"),
        condition=f"status IN {_ENDED} AND finished_at IS NULL",
        problem="tasks have ended without a moment of their end",
        remedy=_CORRECT,
    ),
    Rule(
        name="claim_of_a_job_that_does_not_run",
        table="project_claims",
        columns=("project_id", "job_id"),
        tables=("jobs",),
        condition="""NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = project_claims.job_id AND jobs.status = 'running'
            AND jobs.claim_token = project_claims.claim_token)""",
        problem="projects are held by jobs that do not run",
        remedy="Nothing needs to be done: such a claim ends with its executor, at the latest after `stale_seconds`.",
        severity=Severity.WARNING,
    ),
)

_FLAGS = ("jpg_available", "raw_available", "other_available", "keep_jpg", "keep_raw")
_PHOTO_RULES = (
    Rule(
        name="unknown_photo_flag",
        table="photos",
        columns=_FLAGS,
        condition=" OR ".join(f"{flag} NOT IN (0, 1)" for flag in _FLAGS),
        problem="photos have flags other than 0 and 1",
        remedy=_CORRECT,
    ),
)


def _reference_rules() -> Iterator[Rule]:
    # Not by declared keys, because files of other programs may have none.
    for table in metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            column, parent = key.parent.name, key.column.table.name
            target = f"{parent}.{key.column.name}"
            yield Rule(
                name="orphan",
                table=table.name,
                columns=(column,),
                tables=(parent,),
                condition=f"""{table.name}.{column} IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM {parent} AS parent WHERE parent.id = {table.name}.{column})""",
                problem=f"{column} points to {target}, where no row has that id",
                remedy=f"`photojobs db upgrade` corrects it in an older file; else clear or correct {column} by SQL.",
            )


def _timestamp_rules() -> Iterator[Rule]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, UtcTimestamp):
                yield Rule(
                    name="unreadable_timestamp",
                    table=table.name,
                    columns=(column.name,),
                    condition=f"""{column.name} IS NOT NULL AND (strftime('%s', {column.name}) IS NULL
                        OR {column.name} NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*')""",
                    problem=f"{column.name} is no time like 2025-10-01T12:00:00.000Z",
                    remedy=_CORRECT,
                    dialect="sqlite",
                )


def _document_rules() -> Iterator[Rule]:
    for table, column in (("jobs", "payload_json"), ("tasks", "payload_json"), ("tasks", "definition_json")):
        for dialect, condition in (
            ("sqlite", f"CASE WHEN json_valid({column}) THEN json_type({column}) <> 'object' ELSE 1 = 1 END"),
            ("postgresql", f"jsonb_typeof({column}) <> 'object'"),
        ):
            yield Rule(
                name="document_is_no_object",
                table=table,
                columns=(column,),
                condition=f"{column} IS NOT NULL AND {condition}",
                problem=f"{column} is no JSON object, so the row cannot be run",
                remedy=_CORRECT,
                dialect=dialect,
            )


def key_of(table: str) -> Sequence[str]:
    """The columns that name a row of a table."""
    return [column.name for column in metadata.tables[table].primary_key.columns]
