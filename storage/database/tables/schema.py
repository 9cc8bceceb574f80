"""The `MetaData` object that all tables belong to, and functions for columns and indexes that are declared often."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, TextClause, text

from storage.database.column_types import Identifier

metadata = MetaData()


def partial_index(name: str, condition: str, *columns: str | TextClause, unique: bool = False) -> Index:
    """Return a partial index, for both databases: it has only the rows that meet a condition."""
    where = text(condition)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


def integer(name: str, *, default: int, comment: str) -> Column[Any]:
    """Return a column for a number or a flag (0 or 1) that is never NULL."""
    return Column(name, Integer, nullable=False, server_default=text(str(default)), comment=comment)


def reference(
    name: str, table: str, *, ondelete: Literal["CASCADE", "SET NULL"], comment: str, primary_key: bool = False
) -> Column[Any]:
    """Return a column for the id of a row of another table. `ondelete` is what the removal of that row does."""
    key = ForeignKey(f"{table}.id", ondelete=ondelete)
    is_optional = ondelete == "SET NULL"
    return Column(name, Identifier, key, nullable=is_optional, primary_key=primary_key, comment=comment)
