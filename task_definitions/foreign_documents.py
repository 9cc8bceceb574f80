"""Parses YAML, JSON and TOML that other people or programs wrote, within bounds. It does not interpret the data.

Code must use these functions for every file, option or column that photojobs did not write itself. They limit size,
depth, aliases and the length of numbers, so that no text can exhaust the time, the memory or the stack of a process.
"""

import json
import math
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from task_definitions.errors import PhotojobsError
from task_definitions.wording import printable

#: The maximum depth of nested mappings and lists. Python's parsers recurse, and so does code that reads their result.
MAX_DEPTH = 32
#: The maximum number of values in one YAML document. Each use of an alias counts as all the values that it stands for,
#: so that a few shared lists cannot fill the memory.
MAX_VALUES = 20_000
#: The default size limit of a text.
MAX_BYTES = 1024 * 1024
#: The maximum number of characters of a number in YAML: parsing the sexagesimal form (`1:30:00`) takes quadratic time.
MAX_NUMBER_CHARACTERS = 400

#: The errors that the parsers raise for text that is not well-formed. YAML's constructors also raise the errors of
#: `int()`, of `datetime` and of failed lookups. All parsers recurse, so each can raise `RecursionError`.
_PARSER_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class UnreadableDocument(PhotojobsError):
    """A foreign file or text is missing, too large, nested too deeply or not well-formed; the message names it.

    Attributes:
        source: the name of the text in messages.
        problem: the rest of the message.
    """

    def __init__(self, problem: str, *, source: str) -> None:
        super().__init__(f"{printable(source)}: {printable(problem)}")
        self.source = source
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.problem, source=self.source), ()


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The bounds of a foreign text.

    Attributes:
        max_bytes: the maximum size of the text in bytes of UTF-8.
        max_depth: the maximum depth of nested mappings and lists; in YAML, the innermost value counts as a level, too.
        max_values: the maximum number of values of a YAML document; each use of an alias counts.
        has_aliases: whether a YAML document may have aliases.
    """

    max_bytes: int = MAX_BYTES
    max_depth: int = MAX_DEPTH
    max_values: int = MAX_VALUES
    has_aliases: bool = True


DEFAULT_BOUNDS = Bounds()


def read_foreign_file(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        UnreadableDocument: the file is missing, not a regular file, unreadable or too large.
    """
    source = str(path)
    try:
        # A pipe or a device may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableDocument("is not a regular file. Name a regular file.", source=source)
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableDocument(f"cannot be read: {reason}. Check its path and permissions.", source=source) from error
    if len(content) > max_bytes:
        raise UnreadableDocument(f"is larger than {max_bytes} bytes. Make it smaller.", source=source)
    return content


def parse_json(
    content: bytes | str,
    *,
    source: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    remedy: str = "",
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Return the value of a JSON text. NaN and infinities are refused, because the databases refuse them, too.

    `remedy` is an instruction for the user. It ends the message about a text that is not well-formed.

    Raises:
        UnreadableDocument: the text exceeds the bounds or is not well-formed.
    """
    text = _checked_text(content, source, bounds)
    with _named_errors("JSON", source, bounds, remedy):
        check_json_depth(text, bounds.max_depth)
        return json.loads(
            text, object_pairs_hook=object_pairs_hook, parse_constant=_refuse_constant, parse_float=_finite
        )


def parse_toml(
    content: bytes | str, *, source: str, bounds: Bounds = DEFAULT_BOUNDS, remedy: str = ""
) -> dict[str, Any]:
    """Return the value of a TOML text; for `remedy`, see `parse_json`.

    Raises:
        UnreadableDocument: the text exceeds the bounds or is not well-formed.
    """
    text = _checked_text(content, source, bounds)
    with _named_errors("TOML", source, bounds, remedy):
        # tomllib needs quadratic time for a dotted key, and each dot makes a level of nesting.
        if any(part.partition("#")[0].count(".") > bounds.max_depth for part in re.split(r"[=,{}\n]", text)):
            raise RecursionError
        document = tomllib.loads(text)
        if _is_deeper_than(document, bounds.max_depth):
            raise RecursionError
        return document


def parse_yaml(
    content: bytes | str,
    *,
    source: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    remedy: str = "",
    loader: "type[BoundedLoader] | None" = None,
) -> Any:
    """Return the value of a YAML text with one document, built by a safe loader: `BoundedLoader` or a subclass.

    For `remedy`, see `parse_json`.

    Raises:
        UnreadableDocument: the text exceeds the bounds or is not well-formed.
    """
    text = _checked_text(content, source, bounds)
    with _named_errors("YAML", source, bounds, remedy):
        parser = (loader or BoundedLoader)(text, bounds)
        try:
            return parser.get_single_data()
        finally:
            parser.dispose()


def check_json_depth(text: str, max_depth: int) -> None:
    """Raise `RecursionError` if a JSON text has more than `max_depth` levels, in linear time and without parsing it."""
    # Each level needs an opening bracket. Most texts have so few brackets that counting them is enough.
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    is_in_string = False
    escaped_at = -1
    for match in re.finditer(r'["\\\[\]{}]', text):
        character, position = match[0], match.start()
        if is_in_string:
            if position == escaped_at:
                continue
            if character == "\\":
                escaped_at = position + 1
            elif character == '"':
                is_in_string = False
        elif character == '"':
            is_in_string = True
        elif character in "[{":
            depth += 1
            if depth > max_depth:
                raise RecursionError
        elif character in "]}":
            depth -= 1


class BoundedLoader(yaml.SafeLoader):
    """A safe loader that counts values and levels while it reads, before it builds any value."""

    def __init__(self, stream: str, bounds: Bounds) -> None:
        super().__init__(stream)
        self._bounds = bounds
        self._level = 0
        self._nodes = 0
        self._depths: dict[yaml.Node, int] = {}
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one value, within the bounds; PyYAML calls this method."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # The stubs leave it untyped.
        is_alias = self.check_event(yaml.AliasEvent)
        if is_alias and not self._bounds.has_aliases:
            raise yaml.MarkedYAMLError(
                problem="an alias is not allowed here; write the value that it names", problem_mark=mark
            )
        self._level += 1
        self._nodes += 1
        # Both bounds are checked here, before PyYAML recurses and before it has read a huge text completely. Keys are
        # nodes, too, so a document has up to twice as many nodes as values.
        self._refuse_beyond(self._nodes, self._bounds.max_values * 2, "keys and values", mark)
        self._refuse_beyond(self._level, self._bounds.max_depth, "levels", mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias and node not in self._sizes:
            raise yaml.MarkedYAMLError(
                problem="an alias refers to the value that contains it; write a value instead", problem_mark=mark
            )
        if node is not None and not is_alias:
            self._measure(node, mark)
        return node

    def _measure(self, node: yaml.Node, mark: yaml.Mark) -> None:
        # The value that an alias names was measured before; each use of the alias counts as its whole size.
        children = list(_children(node))
        self._sizes[node] = 1 + sum(self._sizes[child] for child in children)
        self._depths[node] = 1 + max((self._depths[child] for child in children), default=0)
        self._refuse_beyond(self._sizes[node], self._bounds.max_values * 2, "keys and values", mark)
        self._refuse_beyond(self._depths[node], self._bounds.max_depth, "levels", mark)

    def _refuse_beyond(self, count: int, most: int, what: str, mark: yaml.Mark) -> None:
        if count > most:
            problem = f"it has more than {most} {what}; an alias counts as the whole value that it names"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build the value of a node. An error of its constructor becomes one that names the line."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            reason = f": {error}" if isinstance(error, ValueError) else ""
            problem = f"the value does not fit its tag {node.tag.rpartition(':')[2]}{reason}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Build a number if its text is not too long; replaces PyYAML's constructors of numbers."""
        if len(node.value) > MAX_NUMBER_CHARACTERS:
            raise yaml.MarkedYAMLError(problem="a number has too many digits", problem_mark=node.start_mark)
        is_integer = node.tag == "tag:yaml.org,2002:int"
        value: int | float = self.construct_yaml_int(node) if is_integer else self.construct_yaml_float(node)
        return value


BoundedLoader.add_constructor("tag:yaml.org,2002:int", BoundedLoader.construct_number)
BoundedLoader.add_constructor("tag:yaml.org,2002:float", BoundedLoader.construct_number)


def _checked_text(content: bytes | str, source: str, bounds: Bounds) -> str:
    # The length of a str is in characters, each of which takes at least one byte.
    if len(content) > bounds.max_bytes:
        raise UnreadableDocument(f"is larger than {bounds.max_bytes} bytes. Make it smaller.", source=source)
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start + 1} is 0x{content[error.start]:02x}). Save it as UTF-8."
        raise UnreadableDocument(problem, source=source) from error


@contextmanager
def _named_errors(format_name: str, source: str, bounds: Bounds, remedy: str) -> Iterator[None]:
    """Turn the errors of a parser into `UnreadableDocument`."""
    try:
        yield
    except _PARSER_ERRORS as error:
        problem = f"is not well-formed {format_name}: {_place_and_reason(error, bounds)}. {remedy}".rstrip()
        raise UnreadableDocument(problem, source=source) from error


def _place_and_reason(error: BaseException, bounds: Bounds) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, yaml.MarkedYAMLError):
        reason = " ".join(", ".join(part for part in (error.context, error.problem) if part).split())
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {reason}" if mark else reason
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: {error.reason}"
    if isinstance(error, RecursionError):
        return f"it is nested too deeply ({bounds.max_depth} levels are allowed)"
    if isinstance(error, ValueError) and "digits" in str(error):
        return f"a number has more than {sys.get_int_max_str_digits()} digits"
    return " ".join(str(error).split())[:200]


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    # A number that is too large becomes an infinity, without a call of `parse_constant`.
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is too large for a number")
    return number


def _is_deeper_than(document: object, max_depth: int) -> bool:
    level = [document]
    for _ in range(max_depth + 1):
        level = [child for value in level for child in _values(value)]
        if not level:
            return False
    return True


def _values(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
