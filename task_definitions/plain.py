"""Copies values into plain data: the kinds of values that JSON, YAML and both databases keep unchanged.

A definition contains only such values. `task_definitions.model` defines the fields of definitions.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from task_definitions.errors import DefinitionError, DuplicateKey, InvalidDefinition
from task_definitions.foreign_documents import MAX_DEPTH, MAX_VALUES
from task_definitions.wording import printable, shown

#: The largest integer that the JSON functions of PostgreSQL and SQLite read back without rounding.
MAX_INTEGER = 2**63 - 1


class ParsedMapping(dict[object, object]):
    """A mapping from a definition file, with the keys that the file repeats."""

    def __init__(self) -> None:
        super().__init__()
        #: Each repeated key, with the place where it is repeated, as in "line 7"; the place is "" if it is not known.
        self.repeated: dict[object, str] = {}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem, and the field that has it."""

    field: str
    text: str
    error: type[DefinitionError] = InvalidDefinition


@dataclass(frozen=True)
class PlainValue:
    """A value made of dicts, lists, texts, numbers, booleans and None.

    None replaces values that are not allowed. Entries whose keys are not allowed are left out.
    """

    value: JsonValue
    problems: tuple[Problem, ...]
    #: Whether the value was too large, so that a part of it is missing.
    is_cut: bool = False


def plain(value: object, *, path: str = "") -> PlainValue:
    """Copy any value into plain data, and report the parts that are not plain.

    `path` is the field that has the value. The field of each problem begins with `path`.
    """
    copy = _Copy()
    result = copy.of(value, path, 0)
    return PlainValue(result, tuple(copy.problems), is_cut=copy.values > MAX_VALUES)


@dataclass
class _Copy:
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def of(self, value: object, path: str, depth: int) -> JsonValue:
        self.values += 1
        if self.values > MAX_VALUES:
            if self.values == MAX_VALUES + 1:
                self.refuse(path, f"is too large: a definition may hold at most {MAX_VALUES} values. Make it smaller.")
            return None
        if depth > MAX_DEPTH:
            self.refuse(path, f"is nested too deeply: at most {MAX_DEPTH} levels are allowed. Flatten it.")
            return None
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value, path)
        if isinstance(value, int | float):
            return self.number(value, path)
        if isinstance(value, Mapping):
            return dict(self.entries(value, path, depth))
        if isinstance(value, list | tuple):
            return [
                self.of(entry, f"{path}[{index}]", depth + 1) for index, entry in enumerate(value[: MAX_VALUES + 1])
            ]
        self.refuse(
            path, f"{shown(value)} is not allowed: give text, a number, true, false, null, a list or a mapping."
        )
        return None

    def text(self, value: str, path: str) -> str | None:
        fault = unstorable(value)
        if fault:
            self.refuse(
                path, f"{shown(value)} is not allowed: it holds {fault}, which a database cannot keep. Remove it."
            )
            return None
        return str.__str__(value)

    def number(self, value: int | float, path: str) -> int | float | None:
        if isinstance(value, int):
            if abs(value) > MAX_INTEGER:
                self.refuse(path, f"is not allowed: give a whole number from -{MAX_INTEGER} to {MAX_INTEGER}.")
                return None
            return int(value)
        if not math.isfinite(value):
            self.refuse(path, f"{value} is not allowed: give a finite number.")
            return None
        return float(value)

    def entries(self, mapping: Mapping[object, object], path: str, depth: int) -> Iterator[tuple[str, JsonValue]]:
        if isinstance(mapping, ParsedMapping):
            for key, again in mapping.repeated.items():
                where = f" (again in {again})" if again else ""
                self.refuse(_joined(path, key), f"is in the same mapping twice{where}. Keep one.", DuplicateKey)
        for key, value in mapping.items():
            if self.values > MAX_VALUES:
                return
            if not isinstance(key, str):
                self.refuse(path, f"{shown(key)} is not a key: keys are text. Put it in quotes.")
            elif unstorable(key):
                self.refuse(
                    path, f"{shown(key)} is not a key, because it holds {unstorable(key)}. Remove this character."
                )
            else:
                yield str.__str__(key), self.of(value, _joined(path, key), depth + 1)

    def refuse(self, path: str, text: str, error: type[DefinitionError] = InvalidDefinition) -> None:
        self.problems.append(Problem(field=path, text=text, error=error))


def unstorable(text: str) -> str:
    """Return a description of a character in `text` that a database cannot store; empty if there is none."""
    if "\x00" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return ""


def _joined(path: str, key: object) -> str:
    name = printable(key[:80]) if isinstance(key, str) else shown(key)
    return f"{path}.{name}" if path else name
