"""The integrity rules for rows of our tables. Each rule has a condition that only faulty rows meet."""

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from storage.database.column_types import UtcTimestamp
from storage.database.tables import metadata
from task_definitions import MAX_ITEMS_PER_JOB
from task_definitions.wording import listed


class Severity(StrEnum):
    """The severity of a finding: an `error` must be corrected, a `warning` is unusual but harmless."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule for the rows of a table, with a condition that only faulty rows meet.

    Attributes:
        name: the name of the finding, for programs; it never changes.
        condition: the condition in SQL, for both databases or for the database that `dialect` names.
    """

    name: str
    table: str
    condition: str
    problem: str
    remedy: str
    severity: Severity = Severity.ERROR
    dialect: str | None = None

    def can_be_checked(self, columns: Mapping[str, Set[str]]) -> bool:
        """Return whether the condition can run on a database with these columns in each table.

        The files of older versions have fewer columns.
        """
        words = set(re.findall(r"\w+", self.condition))
        has_columns = columns[self.table] >= words.intersection(metadata.tables[self.table].columns.keys())
        return has_columns and columns.keys() >= words.intersection(metadata.tables)


_JOB_STATUSES = "('queued', 'running', 'completed', 'failed', 'canceled')"
_UNFINISHED = "('queued', 'running')"
_ENDED = "('completed', 'failed', 'canceled')"
_ITEM_STATUSES = "('pending', 'running', 'done', 'failed', 'skipped')"
_SCOPES = "('project', 'photo_set', 'global')"
_CANCEL = "Cancel these jobs with `photojobs jobs cancel`."
_REQUEUE = "Queue these jobs again in Python with `JobsRepository(database).requeue(id)`."


def _set_by_sql(column: str, value: str) -> str:
    return f"Run `photojobs db backup`. Then set {column} by SQL to {value}."


def rules_of_rows() -> Iterator[Rule]:
    """Yield all rules."""
    yield from _state_rules()
    yield from _RULES
    yield from _reference_rules()
    yield from _timestamp_rules()
    yield from _document_rules()


def _state_rules() -> Iterator[Rule]:
    for name, table, statuses, problem in (
        ("unknown_job_status", "jobs", _JOB_STATUSES, "jobs have an unknown status, so they never run or end"),
        ("unknown_item_status", "job_items", _ITEM_STATUSES, "items have an unknown status, so no job processes them"),
        ("unknown_task_status", "tasks", _JOB_STATUSES, "tasks have an unknown status"),
    ):
        yield Rule(
            name=name,
            table=table,
            condition=f"status NOT IN {statuses}",
            problem=problem,
            remedy=_set_by_sql("status", f"one of {statuses[1:-1]}"),
        )
    for name, table in (("ended_without_finished_at", "jobs"), ("ended_task_without_finished_at", "tasks")):
        yield Rule(
            name=name,
            table=table,
            condition=f"status IN {_ENDED} AND finished_at IS NULL",
            problem=f"ended {table} have no finished_at, so they are never pruned",
            remedy=_set_by_sql("finished_at", "a time, such as the one in updated_at"),
        )


_FLAGS = ("jpg_available", "raw_available", "other_available", "keep_jpg", "keep_raw")
_RULES = (
    Rule(
        name="running_without_worker",
        table="jobs",
        condition="status = 'running' AND worker_id IS NULL",
        problem="jobs are running without a worker id",
        remedy=_REQUEUE,
    ),
    Rule(
        name="unfinished_but_finished_at",
        table="jobs",
        condition=f"status IN {_UNFINISHED} AND finished_at IS NOT NULL",
        problem="unfinished jobs have a finished_at",
        remedy=_REQUEUE,
    ),
    Rule(
        name="unknown_scope",
        table="jobs",
        condition=f"scope IS NULL OR scope NOT IN {_SCOPES}",
        problem="jobs have an unknown scope",
        remedy=_set_by_sql("scope", f"one of {_SCOPES[1:-1]}"),
    ),
    Rule(
        name="project_scope_without_project",
        table="jobs",
        condition=f"scope = 'project' AND project_id IS NULL AND status IN {_UNFINISHED}",
        problem="unfinished jobs with the scope `project` name no project",
        remedy=_CANCEL + " Or set project_id by SQL to the id of the right project.",
    ),
    Rule(
        name="global_scope_with_project",
        table="jobs",
        condition="scope = 'global' AND project_id IS NOT NULL",
        problem="jobs with the scope `global` name a project",
        remedy=_set_by_sql("project_id", "NULL"),
    ),
    Rule(
        name="too_many_items",
        table="jobs",
        # The condition scans `job_items` once, because older files may have no index on job_id.
        condition=f"""id IN (
            SELECT job_id FROM job_items GROUP BY job_id HAVING count(*) > {MAX_ITEMS_PER_JOB})""",
        problem=f"jobs have more than {MAX_ITEMS_PER_JOB} items",
        remedy="Cancel the unfinished ones with `photojobs jobs cancel`. Then enqueue their items again in Python, "
        "with auto_chunk=True.",
    ),
    Rule(
        name="unfinished_job_without_task",
        table="jobs",
        condition=f"""status IN {_UNFINISHED} AND task_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = jobs.task_id)""",
        problem="unfinished jobs belong to a task that does not exist, so no next step starts after them",
        remedy=_CANCEL,
    ),
    Rule(
        name="ended_job_without_task",
        table="jobs",
        condition=f"""status IN {_ENDED} AND task_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = jobs.task_id)""",
        problem="ended jobs belong to a task that no longer exists",
        remedy="Nothing needs to be done.",
        severity=Severity.WARNING,
    ),
    Rule(
        name="unfinished_task_without_jobs",
        table="tasks",
        condition=f"""status IN {_UNFINISHED} AND NOT EXISTS (
            SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id AND jobs.status IN {_UNFINISHED})""",
        problem="tasks are unfinished, although all their jobs have ended",
        remedy="Start `photojobs up` or `photojobs worker`; it continues these tasks.",
        severity=Severity.WARNING,
    ),
    Rule(
        name="ended_task_with_jobs",
        table="tasks",
        condition=f"""status IN {_ENDED} AND EXISTS (
            SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id AND jobs.status IN {_UNFINISHED})""",
        problem="ended tasks have unfinished jobs",
        remedy="Cancel those jobs with `photojobs jobs cancel`, or run them with `photojobs retry TASK_ID`.",
    ),
    Rule(
        name="unfinished_task_but_finished_at",
        table="tasks",
        condition=f"status IN {_UNFINISHED} AND finished_at IS NOT NULL",
        problem="unfinished tasks have a finished_at",
        remedy=_set_by_sql("finished_at", "NULL"),
    ),
    Rule(
        name="claim_of_a_job_that_does_not_run",
        table="project_claims",
        condition="""NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = project_claims.job_id AND jobs.status = 'running'
            AND jobs.claim_token = project_claims.claim_token)""",
        problem="projects are claimed by jobs that do not run",
        remedy="Nothing needs to be done: the claim ends with its executor, or after `stale_seconds`.",
        severity=Severity.WARNING,
    ),
    Rule(
        name="unknown_photo_flag",
        table="photos",
        condition=" OR ".join(f"{flag} NOT IN (0, 1)" for flag in _FLAGS),
        problem=f"photos have a value other than 0 and 1 in {listed(_FLAGS)}",
        remedy=_set_by_sql("each such value", "0 or 1"),
    ),
)


def _reference_rules() -> Iterator[Rule]:
    # Each reference is checked with SQL, because files of other programs may lack foreign keys.
    for table in metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            column, parent = key.parent.name, key.column.table.name
            target = f"{parent}.{key.column.name}"
            yield Rule(
                name="orphan",
                table=table.name,
                condition=f"""{table.name}.{column} IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM {parent} AS parent WHERE parent.id = {table.name}.{column})""",
                problem=f"{column} refers to a row of {parent} that does not exist",
                remedy="`photojobs db upgrade` repairs this in a file of an older version. In other databases, "
                f"run `photojobs db backup`. Then set {column} by SQL to an existing {target}, or "
                + ("to NULL." if key.parent.nullable else "delete the rows."),
            )


def _timestamp_rules() -> Iterator[Rule]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            name = column.name
            for dialect, condition in (
                (
                    "sqlite",
                    f"""strftime('%s', {name}) IS NULL
                        OR {name} NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'""",
                ),
                ("postgresql", f"NOT ({name} >= '0001-01-01' AND {name} < '10000-01-01')"),
            ):
                if isinstance(column.type, UtcTimestamp):
                    yield Rule(
                        name="unreadable_timestamp",
                        table=table.name,
                        condition=f"{name} IS NOT NULL AND ({condition})",
                        problem=f"{name} is not a time like 2025-10-01T12:00:00.000Z",
                        remedy=_set_by_sql(name, "such a time or, if the column allows it, to NULL"),
                        dialect=dialect,
                    )


def _document_rules() -> Iterator[Rule]:
    for table, column in (
        ("jobs", "payload_json"),
        ("tasks", "payload_json"),
        ("tasks", "flags_json"),
        ("tasks", "definition_json"),
    ):
        for dialect, condition in (
            ("sqlite", f"CASE WHEN json_valid({column}) THEN json_type({column}) <> 'object' ELSE 1 = 1 END"),
            ("postgresql", f"jsonb_typeof({column}) <> 'object'"),
        ):
            yield Rule(
                name="document_is_no_object",
                table=table,
                condition=f"{column} IS NOT NULL AND {condition}",
                problem=f"{column} is not a JSON object, so the {table.removesuffix('s')} cannot be run",
                remedy="Cancel these tasks, and start them again."
                if column == "definition_json"
                else _set_by_sql(column, "a JSON object, such as {}"),
                dialect=dialect,
            )
