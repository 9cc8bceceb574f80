"""Driver statements that return whole rows of `jobs`, such as the statements that claim and end jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from typing_extensions import override

from storage.database.driver_statement import DriverStatement
from storage.database.tables import jobs
from storage.records import Job

_COLUMNS = tuple(jobs.c[field.name] for field in fields(Job))

#: All columns of `jobs` by name. `RETURNING *` would return the columns in the order of the stored table, which differs
#: after an upgrade.
JOB_COLUMNS = ", ".join(f"jobs.{column.name}" for column in _COLUMNS)


#: A condition for jobs that are found by id. `IS TRUE` keeps PostgreSQL from using an index of all queued jobs.
STILL_QUEUED = "(jobs.status = 'queued') IS TRUE"


def is_given(column: str, *, is_postgresql: bool) -> str:
    """Return the condition that a column is in the list `:job_ids`; its text is the same for any number of ids."""
    if is_postgresql:
        # A join is not used, because PostgreSQL may read the other table of a join first.
        return f"{column} = ANY(CAST(:job_ids AS bigint[]))"
    return f"{column} IN (SELECT value FROM json_each(:job_ids))"


def is_given_and_queued(*, is_postgresql: bool) -> str:
    """Return the condition that a job is in the list `:job_ids` and queued."""
    return f"{is_given('jobs.id', is_postgresql=is_postgresql)} AND {STILL_QUEUED}"


def by_index(is_postgresql: bool, index: str) -> str:
    """Return the clause after a table's name that makes SQLite use this index; empty on PostgreSQL."""
    # By itself SQLite prefers the older indexes on `status`, which hold the whole queue.
    return "" if is_postgresql else f" INDEXED BY {index}"


class JobStatement(DriverStatement):
    """A statement that returns the columns `JOB_COLUMNS` of each job that it finds or changes."""

    __slots__ = ("_readers",)

    def __init__(self, sql: str, *, is_planned_once: bool = False) -> None:
        super().__init__(sql, returns=_COLUMNS, is_planned_once=is_planned_once)
        self._readers = {
            dialect: {column.name: (index, converters.get(index)) for index, column in enumerate(_COLUMNS)}
            for dialect, converters in self.converters.items()
        }

    @override
    def rows(self, found: Sequence[Sequence[Any]], dialect: str) -> list[Job]:
        readers = self._readers[dialect]
        return [Job.from_driver(values, readers) for values in found]
