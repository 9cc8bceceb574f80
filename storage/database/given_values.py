"""SQL conditions for a column that has one of many given values, which are passed as one bound parameter.

If each value were a parameter, at most 65,535 values would be possible on PostgreSQL, and 32,766 on SQLite.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _GivenTexts(FunctionElement[Any]):
    """A subquery for the texts in a JSON array, which is a bound parameter."""

    inherit_cache = True
    name = "given_texts"


class _GivenIds(FunctionElement[Any]):
    """A subquery for the integers in a JSON array, which is a bound parameter."""

    inherit_cache = True
    name = "given_ids"


def among(column: ColumnElement[Any], values: Iterable[int] | Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a column has one of the values, which must be all integers or all texts."""
    given = list(values)
    array = literal(json.dumps(given), Text)
    query = _GivenTexts(array) if given and isinstance(given[0], str) else _GivenIds(array)
    return column.bool_op("IN")(query)


@compiles(_GivenTexts)
def _texts(element: _GivenTexts, compiler: SQLCompiler, **options: Any) -> str:
    return _query(element, compiler, "value", **options)


@compiles(_GivenIds)
def _ids(element: _GivenIds, compiler: SQLCompiler, **options: Any) -> str:
    return _query(element, compiler, "CAST(value AS bigint)", **options)


def _query(element: FunctionElement[Any], compiler: SQLCompiler, value: str, **options: Any) -> str:
    array = compiler.process(element.clauses, **options)
    if compiler.dialect.name == "postgresql":
        return f"(SELECT {value} FROM json_array_elements_text(CAST({array} AS json)) AS given(value))"
    return f"(SELECT {value} FROM json_each({array}))"
