"""Values that a snapshot cannot have: they are stored as objects, with their bytes in hexadecimal.

Only other programs write such values: bytes, texts with a NUL character, and texts in a JSON column of SQLite that are
not valid JSON.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, bindparam

_BYTES: Final = "bytes_as_hexadecimal"
_TEXT: Final = "text_as_hexadecimal"


def as_hexadecimal(value: bytes | str) -> dict[str, str]:
    """Return the object that stands for a value in a snapshot."""
    return {_BYTES: value.hex()} if isinstance(value, bytes) else {_TEXT: value.encode().hex()}


def stored_value(value: Any) -> Any:
    """Return the value that such an object stands for; other values of a snapshot are returned unchanged."""
    if isinstance(value, dict) and value.keys() == {_BYTES}:
        return bytes.fromhex(value[_BYTES])
    if isinstance(value, dict) and value.keys() == {_TEXT}:
        return bytes.fromhex(value[_TEXT]).decode()
    return value


def is_among(column: Column[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of the values, which may be bytes and texts."""
    # Without its own type, the parameter would get the type of its first value.
    return column.in_(bindparam(None, list(values), type_=column.type, expanding=True))
