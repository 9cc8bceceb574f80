"""The schema that all tables belong to."""

from __future__ import annotations

from sqlalchemy import Index, MetaData, TextClause, text

metadata = MetaData()


def partial_index(name: str, condition: str, *columns: str | TextClause, unique: bool = False) -> Index:
    """Return an index of the rows that fulfil a condition, on both databases."""
    where = text(condition)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
