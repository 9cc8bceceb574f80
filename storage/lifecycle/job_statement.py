"""Statements that return whole rows of `jobs`: claims and ends, which run once for each job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from typing_extensions import override

from storage.database.driver_statement import DriverStatement, Runs
from storage.database.tables import jobs
from storage.records import Job

_COLUMNS = tuple(jobs.c[field.name] for field in fields(Job))

#: Named one by one: `RETURNING *` would follow the order of the file, which differs where it was upgraded.
JOB_COLUMNS = ", ".join(f"jobs.{column.name}" for column in _COLUMNS)


#: A condition on jobs found by their ids. `IS TRUE` keeps it from any index, by which all that is queued would be read.
STILL_QUEUED = "(jobs.status = 'queued') IS TRUE"


def is_given(column: str, *, is_postgresql: bool) -> str:
    """The condition that a column is among the list `:job_ids`: however many, the statement stays the same."""
    if is_postgresql:
        # Not a join, which PostgreSQL may begin at the other end.
        return f"{column} = ANY(CAST(:job_ids AS bigint[]))"
    return f"{column} IN (SELECT value FROM json_each(:job_ids))"


def is_given_and_queued(*, is_postgresql: bool) -> str:
    """The condition that a job is among the list `:job_ids`, and queued."""
    return f"{is_given('jobs.id', is_postgresql=is_postgresql)} AND {STILL_QUEUED}"


class JobStatement(DriverStatement):
    """A statement that returns `JOB_COLUMNS` of the rows it is about."""

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

    def jobs(self, run: Runs, parameters: Mapping[str, Any]) -> list[Job]:
        """Run it, and return the rows as records."""
        return run(self, parameters)
