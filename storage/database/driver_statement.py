"""SQL statements that run on the driver directly, because they run for every job. SQLAlchemy would double their time.

Their text is fixed. Use SQLAlchemy for statements that are assembled at run time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection
from sqlalchemy.dialects import sqlite

from storage.database.clock import format_timestamp, in_utc, parse_timestamp
from storage.database.column_types import JsonDocument, UtcTimestamp, encode_json

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class DriverStatement:
    """An SQL text with `:name` parameters, which returns rows with the columns `returns`.

    Parameters may be text, numbers, None, aware datetimes, JSON objects (dicts) and lists. SQLite gets a list as a
    JSON array. Rows have the same values as with SQLAlchemy: aware datetimes and parsed JSON.
    """

    __slots__ = ("_names", "_texts", "converters", "is_planned_once", "numbered")

    def __init__(self, sql: str, *, returns: Sequence[Column[Any]] = (), is_planned_once: bool = False) -> None:
        #: Whether PostgreSQL makes one plan for all values, because planning would take longer than the statement.
        self.is_planned_once = is_planned_once
        sql = " ".join(sql.split())
        # SQLite 3.47 and later would compile the statement again for each value of a bare `LIMIT ?`. Compiling a claim
        # takes longer than running it, so the parameter gets a `+`.
        for_sqlite = sql.replace("LIMIT :", "LIMIT +:")
        self._texts = {"sqlite": for_sqlite, "postgresql": _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))}
        #: The names of the parameters in the order of their numbers, and the statement with numbers (`$1`) in place of
        #: names. psycopg sends a statement with numbers unchanged. It would parse a statement with names, and would
        #: parse a long statement again at every use.
        self._names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        self.numbered = _PARAMETER.sub(lambda found: f"${self._names.index(found[1]) + 1}", sql).encode()
        self.converters = {
            dialect: {
                index: convert
                for index, column in enumerate(returns)
                if (convert := _converter(column, dialect)) is not None
            }
            for dialect in self._texts
        }

    def text(self, dialect: str) -> str:
        """Return the statement in the parameter style of the driver for `sqlite` or `postgresql`."""
        return self._texts[dialect]

    def in_order(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the parameters of `numbered`, in the order of their numbers, as values that psycopg accepts."""
        given = bound(parameters, "postgresql")
        return [given[name] for name in self._names]

    def rows(self, found: Sequence[Sequence[Any]], dialect: str) -> list[Any]:
        """Return the driver's rows, with times and JSON converted to Python values."""
        converters = self.converters[dialect]
        return [
            tuple(
                converters[index](value) if value is not None and index in converters else value
                for index, value in enumerate(values)
            )
            for values in found
        ]

    def on(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Run the statement in the transaction of an open connection."""
        dialect = connection.dialect.name
        result = connection.exec_driver_sql(self._texts[dialect], bound(parameters, dialect))
        return self.rows(result.all(), dialect) if result.returns_rows else []


#: A function that runs a statement and returns its rows.
Runs = Callable[[DriverStatement, Mapping[str, Any]], list[Any]]

#: A statement and its parameters.
Step = tuple[DriverStatement, Mapping[str, Any]]


def run_on(connection: Connection, statement: DriverStatement, parameters: Mapping[str, Any]) -> list[Any]:
    """Run a statement in the transaction of an open connection."""
    return statement.on(connection, parameters)


def bound(parameters: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """Return the parameters as values that the driver accepts."""
    convert = _TO_SQLITE if dialect == "sqlite" else _TO_POSTGRESQL
    return {
        name: convert[kind](value) if (kind := type(value)) in convert else value for name, value in parameters.items()
    }


_TO_SQLITE: dict[type, Callable[[Any], Any]] = {datetime: format_timestamp, dict: encode_json, list: json.dumps}
# JSON is sent as text, which the statement casts, so that no psycopg type for JSON is needed.
_TO_POSTGRESQL: dict[type, Callable[[Any], Any]] = {datetime: in_utc, dict: encode_json}


def _converter(column: Column[Any], dialect: str) -> Callable[[Any], Any] | None:
    if isinstance(column.type, UtcTimestamp):
        return parse_timestamp if dialect == "sqlite" else _time_or_none
    if isinstance(column.type, JsonDocument) and dialect == "sqlite":
        return partial(column.type.process_result_value, dialect=_SQLITE)
    # psycopg parses JSON, and all other values.
    return None


def _time_or_none(value: Any) -> datetime | None:
    """Return a value of a PostgreSQL session if it is a time; see `storage.database.postgresql_session`."""
    return value if isinstance(value, datetime) else None


_SQLITE = sqlite.dialect()
