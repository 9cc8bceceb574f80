"""Writes the page of tables from `storage.database.tables`."""

from __future__ import annotations

from sqlalchemy import Column, Dialect, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql, sqlite

from docs_site.markdown import code, table
from storage.database.tables import metadata

_INTRODUCTION = """# Tables

SQLite and PostgreSQL have the same tables. On SQLite, moments are TEXT in UTC such as `2025-10-01T12:00:00.000Z`,
and JSON is TEXT. On PostgreSQL they are `timestamptz` and `jsonb`. Columns in _italics_ were added to tables of
older programs. They are nullable or have a default, so older programs can insert rows without them.

You may read all tables by plain SQL; [query recipes](../how-to/query-recipes.md) has examples. Rows that you insert
into `jobs` run like all others. To change the status of a job, use the command or the repositories: they make all
changes that belong to it in one transaction.
"""
_SQLITE: Dialect = sqlite.dialect()  # type: ignore[no-untyped-call]
_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
#: The first column that photojobs added to each table of older programs.
_FIRST_ADDED = {"projects": "tenant_id", "jobs": "task_id", "job_items": "attempts"}


def tables_page() -> str:
    """Return the page with every table and its columns, in the order of `storage.database.tables`."""
    parts = [_INTRODUCTION]
    for found in metadata.tables.values():
        rows = [_row(found, column) for column in found.columns]
        parts += [
            f"## {found.name}\n",
            f"{found.comment}\n",
            table(("column", "SQLite", "PostgreSQL", "rules", "meaning"), rows),
            "",
        ]
        indexes = sorted(str(index.name) for index in found.indexes)
        if indexes:
            parts.append(f"Indexes: {', '.join(code(name) for name in indexes)}.\n")
    return "\n".join(parts)


def _row(found: Table, column: Column[object]) -> tuple[str, ...]:
    names = list(found.columns.keys())
    added = _FIRST_ADDED.get(found.name)
    is_added = added is not None and names.index(column.name) >= names.index(added)
    return (
        f"_{code(column.name)}_" if is_added else code(column.name),
        column.type.compile(_SQLITE),
        column.type.compile(_POSTGRESQL).lower(),
        "; ".join(_rules(found, column)),
        str(column.comment),
    )


def _rules(found: Table, column: Column[object]) -> list[str]:
    rules = ["primary key"] if column.primary_key else ["not NULL"] if not column.nullable else []
    if column.unique:
        rules.append("unique")
    rules += [
        "unique together with " + ", ".join(code(other.name) for other in constraint.columns if other is not column)
        for constraint in found.constraints
        if isinstance(constraint, UniqueConstraint)
        and len(constraint.columns) > 1
        and column.name in constraint.columns
    ]
    rules += [
        f"{code(key.target_fullname)}, on delete {str(key.ondelete).lower()}"
        for key in sorted(column.foreign_keys, key=str)
    ]
    if column.server_default is not None:
        rules.append(f"default {code(str(getattr(column.server_default, 'arg', '')))}")
    return rules
