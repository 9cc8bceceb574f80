#!/usr/bin/env bash
# One dictionary as `compiled_cache` of several SQLAlchemy engines shares nothing: each engine compiles each statement anew.
#
# Guess: with `execution_options(compiled_cache=cache)`, all engines of one database and one driver use one cache. A program that
#     opens an engine for each tenant, file or test then compiles a statement once.
# Behaviour: the key of an entry begins with the engine's dialect object, which each `create_engine` makes anew and which has no
#     equality of its own. The second engine finds nothing, and adds its own entry of the same statement: the dictionary grows
#     with each engine, and keeps their dialects alive. Nothing warns. A copy of the engine by `execution_options`, which has the
#     same dialect, does share the cache. Engines share it, too, if their class of dialects says that its objects are equal.
# Versions: SQLAlchemy 2.1.9 with SQLite.
# Date: 2026-11-29.
# Source: sqlalchemy/sql/elements.py, ClauseElement._compile_w_cache: `key = (dialect, elem_cache_key, …)`.
# Covered by: tests/compiled_statements.py, which makes all dialects of a class equal: the tests compile each statement once.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q SQLAlchemy==2.1.9
"$work/venv/bin/python" - <<'PYTHON'
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, event, select
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.compiler import SQLCompiler

compiled = 0
visit_select = SQLCompiler.visit_select


def counted(self: SQLCompiler, *arguments: Any, **options: Any) -> Any:
    global compiled
    compiled += 1
    return visit_select(self, *arguments, **options)


SQLCompiler.visit_select = counted
metadata = MetaData()
photos = Table("photos", metadata, Column("id", Integer, primary_key=True))


def compilations(engines: list[Engine]) -> int:
    """How often one SELECT is compiled if each engine runs it twice."""
    for engine in engines:
        metadata.create_all(engine)
    before = compiled
    for _ in range(2):
        for engine in engines:
            with engine.connect() as connection:
                connection.execute(select(photos)).all()
    return compiled - before


cache: dict[Any, Any] = {}
several = compilations([create_engine("sqlite://").execution_options(compiled_cache=cache) for _ in range(5)])
of_select = sum("SELECT photos.id" in str(entry) for entry in cache.values())
print("five engines with one cache compile the statement", several, "times; entries of it in the cache:", of_select)
assert several == of_select == 5

first = create_engine("sqlite://").execution_options(compiled_cache={})
copies = compilations([first, *(first.execution_options(number=number) for number in range(4))])
print("an engine and four copies of it:", copies)
assert copies == 1

SQLiteDialect_pysqlite.__eq__ = lambda self, other: type(self) is type(other)
SQLiteDialect_pysqlite.__hash__ = lambda self: hash(type(self))
cache = {}
equal = compilations([create_engine("sqlite://").execution_options(compiled_cache=cache) for _ in range(5)])
print("five engines whose dialects are equal:", equal)
assert equal == 1
PYTHON
