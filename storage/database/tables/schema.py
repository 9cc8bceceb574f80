"""The `MetaData` object that all tables belong to, and a function for partial indexes."""

from __future__ import annotations

from sqlalchemy import Index, MetaData, TextClause, text

metadata = MetaData()


def partial_index(name: str, condition: str, *columns: str | TextClause, unique: bool = False) -> Index:
    """Return a partial index, for both databases: it has only the rows that meet a condition."""
    where = text(condition)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
