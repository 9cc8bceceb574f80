"""Statements that return whole rows of `jobs`: claims and ends, which run once for each job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from typing_extensions import override

from storage.driver_statement import DriverStatement, Runs
from storage.records import Job
from storage.tables import jobs

_COLUMNS = tuple(jobs.c[field.name] for field in fields(Job))

#: Named one by one: `RETURNING *` would follow the order of the file, which differs where it was upgraded.
JOB_COLUMNS = ", ".join(f"jobs.{column.name}" for column in _COLUMNS)


def given_job_ids(is_postgresql: bool) -> str:
    """A query for the ids that stand in `:job_ids` as a JSON array: however many, the statement stays the same."""
    given = (
        "json_array_elements_text(CAST(:job_ids AS json)) AS given(value)" if is_postgresql else "json_each(:job_ids)"
    )
    return f"SELECT CAST(value AS bigint) AS id FROM {given}"


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
