"""Column types that give Python the same values on both databases, and keep the format of existing SQLite files."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, Text, types
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from typing_extensions import override

from storage.database.clock import format_timestamp, in_utc, parse_timestamp
from storage.errors import InvalidValue
from task_definitions.foreign_documents import Bounds, UnreadableDocument, parse_json
from task_definitions.wording import shown

#: The type of ids: 64 bits on both databases. SQLite uses a primary key as row id only if its type is INTEGER.
Identifier = BigInteger().with_variant(Integer, "sqlite")

#: The largest integer that both databases store.
MAX_INTEGER = 2**63 - 1

#: The limits for reading a stored document. They exceed our limits for writing, because other programs also write.
_STORED_BOUNDS = Bounds(max_bytes=16 * 1024 * 1024, max_depth=64)

#: The largest integer in columns for counts, such as progress, attempts and slots.
MAX_COUNT = 2**31 - 1

#: Finds an escaped NUL character in JSON, but not an escaped backslash that comes before the text u0000.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

#: Characters that are not allowed in a tenant's id, because the id is also the name of a folder in the library.
_SEPARATORS = frozenset("/\\")


class UtcTimestamp(types.TypeDecorator[datetime]):
    """The type of times, as aware UTC datetimes.

    SQLite stores TEXT such as `2025-10-01T12:00:00.000Z`, PostgreSQL `timestamptz`.
    """

    impl = Text
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text())

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return in_utc(value) if dialect.name == "postgresql" else format_timestamp(value)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        # A PostgreSQL session has parsed the text already.
        return value if isinstance(value, datetime) else parse_timestamp(value)


class UnreadableJson(str):
    """A text from a JSON column that is not JSON or exceeds our limits. Only other programs write such texts.

    SQLite stores the text as it is; see `as_sqlite_json`.
    """

    __slots__ = ()


class JsonDocument(types.TypeDecorator[Any]):
    """The type of JSON values: TEXT in SQLite, `jsonb` in PostgreSQL. Text that cannot be read is `UnreadableJson`."""

    impl = Text
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(JSONB(none_as_null=True) if dialect.name == "postgresql" else Text())

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return str(value) if isinstance(value, UnreadableJson) else encode_json(value)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return read_stored_json(value) if isinstance(value, str | bytes) and dialect.name != "postgresql" else value


def read_stored_json(text: str | bytes) -> Any:
    """Return the value of a JSON column, or `UnreadableJson` if it cannot be read, so that no query fails."""
    try:
        return parse_json(text, source="a JSON column", bounds=_STORED_BOUNDS)
    except UnreadableDocument:
        return UnreadableJson(text if isinstance(text, str) else text.decode(errors="replace"))


def as_sqlite_json(value: Any) -> Any:
    """Return `value`, which may have parts that other programs wrote, as a value for a JSON column of SQLite.

    A value with a NUL character or a lone surrogate, which `encode_json` refuses, is returned as its JSON text.
    """
    try:
        encode_json(value)
    except InvalidValue:
        with suppress(ValueError):  # The value has an infinite number, which JSON cannot hold.
            return UnreadableJson(json.dumps(value, allow_nan=False))
    return value


def encode_json(value: Any, *, name: str = "payload") -> str:
    """Return `value` as JSON text that both databases accept.

    Raises:
        InvalidValue: `value` has a part that JSON cannot hold, a NaN, a NUL character or a lone surrogate.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"cannot be stored as JSON ({error}); give text, numbers, true, false, null, lists and mappings only"
        raise InvalidValue(name, problem) from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise InvalidValue(name, "contains a NUL character, which PostgreSQL cannot store; remove it")
    _check_encodable(text, name)
    return text


def check_text(value: object, *, name: str, maximum: int | None = None) -> str:
    """Return `value` if it is text that both databases store unchanged.

    Raises:
        InvalidValue: `value` is not a string, is empty or too long, or has a NUL character or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidValue(name, f"must be text, not {shown(value)}")
    if not value:
        raise InvalidValue(name, "is empty; give a text")
    if maximum is not None and len(value) > maximum:
        raise InvalidValue(name, f"has {len(value)} characters, but at most {maximum} are allowed; shorten it")
    if "\0" in value:
        raise InvalidValue(name, "contains a NUL character, which PostgreSQL cannot store; remove it")
    _check_encodable(value, name)
    return value


def check_tenant_id(value: object) -> str:
    """Return `value` if it can be the id of a tenant: a text that can also be the name of a folder in the library.

    Raises:
        InvalidValue: `value` cannot be the id of a tenant.
    """
    tenant_id = check_text(value, name="tenant_id", maximum=255)
    if not _SEPARATORS.isdisjoint(tenant_id) or tenant_id.startswith("."):
        problem = "cannot be the name of a tenant's folder; use no / or \\, and no dot at the beginning"
        raise InvalidValue("tenant_id", f"{shown(tenant_id)} {problem}")
    return tenant_id


def check_integer(value: object, *, name: str, minimum: int = -MAX_INTEGER, maximum: int = MAX_INTEGER) -> int:
    """Return `value` if it is an integer (not a bool) from `minimum` to `maximum`, both inclusive.

    Raises:
        InvalidValue: `value` is not such an integer.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidValue(name, f"must be a whole number, not {shown(value)}")
    if not minimum <= value <= maximum:
        raise InvalidValue(name, f"must be between {minimum} and {maximum}, not {shown(value)}")
    return value


def _check_encodable(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue(name, "contains a lone surrogate, which is not valid Unicode text; remove it") from None
