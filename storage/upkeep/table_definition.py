"""Splits the text of a `CREATE TABLE` statement into parts, so that a table can be rebuilt with all its parts.

SQLite stores the text as it was written. This is not a full SQL parser: it finds little more than the names of columns
and the kinds of constraints.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<text>'(?:[^']|'')*')
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CONSTRAINT_WORDS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column of a table: its name, and its text in the statement, which begins with the name."""

    name: str
    text: str

    @property
    def has_check(self) -> bool:
        """Whether the column has a CHECK constraint."""
        return any(kind == "word" and token.upper() == "CHECK" for kind, token in _tokens(self.text))

    @property
    def text_with_null(self) -> str:
        """The column's text with NULL in place of NOT NULL."""
        matches = list(_TOKEN.finditer(self.text))
        pieces = [match.group() for match in matches]
        depth = 0
        words = [place for place, match in enumerate(matches) if match.lastgroup != "space"]
        for first, second in pairwise(words):
            depth += (pieces[first] == "(") - (pieces[first] == ")")
            # Inside parentheses, as in a CHECK, NOT NULL is a part of a condition.
            if depth == 0 and (pieces[first].upper(), pieces[second].upper()) == ("NOT", "NULL"):
                pieces[first] = ""
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class TableConstraint:
    """A constraint of the table: its text, its kind (`FOREIGN`, `PRIMARY`, …) and its first list of columns."""

    text: str
    kind: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A table without its name: its columns, constraints, and options (`STRICT`, `WITHOUT ROWID`)."""

    columns: tuple[ColumnDefinition, ...]
    constraints: tuple[TableConstraint, ...]
    options: tuple[str, ...]

    @classmethod
    def parse(cls, sql: str) -> Self:
        """Return the parts of a `CREATE TABLE` statement from `sqlite_schema`.

        Raises:
            ValueError: the text has no list of columns.
        """
        parts, rest = _split(sql)
        columns: list[ColumnDefinition] = []
        constraints: list[TableConstraint] = []
        for part in parts:
            kind, first = next(iter(_tokens(part)))
            if kind == "word" and first.upper() in _CONSTRAINT_WORDS:
                constraints.append(_constraint(part))
            else:
                columns.append(ColumnDefinition(unquote(first), part))
        return cls(tuple(columns), tuple(constraints), tuple(" ".join(word.split()) for word in rest if word.strip()))

    def create_statement(self, name: str) -> str:
        """Return the statement that creates this table with the given name."""
        body = ",\n\t".join([*(column.text for column in self.columns), *(part.text for part in self.constraints)])
        options = ", ".join(self.options)
        return f"CREATE TABLE {quote(name)} (\n\t{body}\n)" + (f" {options}" if options else "")


def quote(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def unquote(token: str) -> str:
    """Return the name of an identifier, without quotes."""
    if token[:1] == "[":
        return token[1:-1]
    if token[:1] in ('"', "`", "'"):
        return token[1:-1].replace(token[0] * 2, token[0])
    return token


def mentions(sql: str, name: str) -> bool:
    """Return whether a statement contains this identifier."""
    return any(_is_identifier(kind, token, name) for kind, token in _tokens(sql))


def rename_identifier(sql: str, old: str, new: str, *, count: int = -1) -> str:
    """Return `sql` with an identifier replaced by another, everywhere or in the first `count` places."""
    parts = []
    for match in _TOKEN.finditer(sql):
        token = match.group()
        if count != 0 and _is_identifier(match.lastgroup, token, old):
            token = quote(new)
            count -= 1
        parts.append(token)
    return "".join(parts)


def _is_identifier(kind: str | None, token: str, name: str) -> bool:
    return kind in ("word", "quoted") and unquote(token).lower() == name.lower()


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(sql):
        if match.lastgroup is not None and match.lastgroup != "space":
            yield match.lastgroup, match.group()


def _split(sql: str) -> tuple[list[str], list[str]]:
    """Return the comma-separated parts inside the outer parentheses, and the parts after them, without comments."""
    depth = 0
    inside: list[list[str]] = []
    after: list[list[str]] | None = None
    for match in _TOKEN.finditer(sql):
        piece = " " if match.lastgroup == "space" else match.group()
        if after is not None:
            if piece == ",":
                after.append([])
            else:
                after[-1].append(piece)
            continue
        depth -= piece == ")"
        if depth == 0 and piece == ")":
            after = [[]]
        elif depth == 1 and piece == ",":
            inside.append([])
        elif depth > 0:
            inside[-1].append(piece)
        elif piece == "(":
            inside = [[]]
        depth += piece == "("
    parts = ["".join(part).strip() for part in inside]
    if after is None or not all(parts):
        raise ValueError(f"the statement {sql[:200]!r} has no complete list of columns; correct the table's definition")
    return parts, ["".join(part).strip() for part in after]


def _constraint(text: str) -> TableConstraint:
    tokens = list(_tokens(text))
    kinds = [piece.upper() if kind == "word" else "" for kind, piece in tokens]
    start = 2 if kinds[0] == "CONSTRAINT" else 0
    kind = kinds[start] if start < len(kinds) else ""
    columns: list[str] = []
    if kind != "CHECK" and ("other", "(") in tokens:
        for token_kind, piece in tokens[tokens.index(("other", "(")) + 1 :]:
            if piece == ")":
                break
            if token_kind in ("word", "quoted"):
                columns.append(unquote(piece))
    return TableConstraint(text, kind, tuple(columns))
