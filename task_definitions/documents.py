"""Turns the text of a definition file into Python data, without trusting it. Not for what the data means.

JSON and YAML are held to the same rules: UTF-8, one document, no key twice, nothing that grows without bound.
"""

import json
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from task_definitions.errors import UnreadableDefinitionFile
from task_definitions.plain import MAX_DEPTH, MAX_VALUES, ParsedMapping

#: The endings of the files that hold definitions.
DEFINITION_SUFFIXES = (".json", ".yaml", ".yml")
#: A definition takes about a kilobyte; reading a larger file would only keep its user waiting.
MAX_FILE_BYTES = 1024 * 1024

#: All that the readers are known to raise for text that is not what it says: YAML's constructors let the errors of
#: `int()` and of a failed lookup through, and both readers recurse.
_READER_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


def read_definition_file(path: Path) -> object:
    """Return what the file at `path` holds, as parsed.

    Raises:
        UnreadableDefinitionFile: it is missing, not a regular file, too large, not UTF-8, empty, or not well-formed.
    """
    source = str(path)
    if path.suffix.lower() not in DEFINITION_SUFFIXES:
        raise UnreadableDefinitionFile("is not a definition file: give a .json, .yaml or .yml file.", source=source)
    try:
        # A pipe or a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableDefinitionFile("is not a regular file.", source=source)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableDefinitionFile(f"cannot be read: {reason}.", source=source) from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableDefinitionFile(f"is larger than {MAX_FILE_BYTES} bytes. Split it.", source=source)
    return parse_definition_text(content, source=source, is_json=path.suffix.lower() == ".json")


def parse_definition_text(content: bytes, *, source: str, is_json: bool) -> object:
    """Return what `content` holds, as parsed; `source` names it in errors.

    Raises:
        UnreadableDefinitionFile: it is not UTF-8, empty, or not well-formed.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start + 1} is 0x{content[error.start]:02x}). Save it as UTF-8."
        raise UnreadableDefinitionFile(problem, source=source) from error
    if not text.strip():
        raise UnreadableDefinitionFile("is empty: give one definition, or a mapping of several.", source=source)
    try:
        return _parse_json(text) if is_json else yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader.
    except _READER_ERRORS as error:
        format_name = "JSON" if is_json else "YAML"
        problem = f"is not well-formed {format_name}: {_place_and_reason(error)}."
        raise UnreadableDefinitionFile(problem, source=source) from error


def _parse_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_json_mapping, parse_constant=_refuse_constant)


def _json_mapping(pairs: list[tuple[str, object]]) -> ParsedMapping:
    mapping = ParsedMapping()
    for key, value in pairs:
        if key in mapping:
            mapping.repeated[key] = ""
        mapping[key] = value
    return mapping


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")


def _place_and_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, yaml.MarkedYAMLError):
        reason = " ".join(", ".join(part for part in (error.context, error.problem) if part).split())
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {reason}" if mark else reason
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: {error.reason}"
    if isinstance(error, RecursionError):
        return f"it is nested too deeply ({MAX_DEPTH} levels are allowed)"
    if isinstance(error, ValueError) and "digits" not in str(error):
        return " ".join(str(error).split())
    return "a value is not what its tag says, or a number has too many digits"


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that keeps dates as text, notices repeated keys, and bounds what aliases can grow to."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and form that PyYAML looks for.
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = 0
        self._nodes = 0
        self._depths: dict[yaml.Node, int] = {}
        self._sizes: dict[yaml.Node, int] = {}
        self._repeated: dict[yaml.Node, dict[str, str]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # The stubs leave it untyped.
        self._level += 1
        self._nodes += 1
        # Before going in, because PyYAML recurses, and before the whole of a huge file is read.
        self._refuse_beyond(self._nodes, MAX_VALUES * 2, "values", mark)
        self._refuse_beyond(self._level, MAX_DEPTH, "levels", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias and node not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias stands inside the value that it names", problem_mark=mark)
        if node is not None and not is_alias:
            self._measure(node, mark)
        return node

    def _measure(self, node: yaml.Node, mark: yaml.Mark) -> None:
        # What an alias names was measured when it was composed: sizes count it once for every use, as they must.
        children = list(_children(node))
        self._sizes[node] = 1 + sum(self._sizes[child] for child in children)
        self._depths[node] = 1 + max((self._depths[child] for child in children), default=0)
        self._refuse_beyond(self._sizes[node], MAX_VALUES * 2, "values", mark)
        self._refuse_beyond(self._depths[node], MAX_DEPTH, "levels", mark)
        if isinstance(node, yaml.MappingNode):
            self._repeated[node] = _repeated_keys(node)

    def _refuse_beyond(self, count: int, most: int, what: str, mark: yaml.Mark) -> None:
        if count > most:
            raise yaml.MarkedYAMLError(problem=f"more than {most} {what}, aliases counted", problem_mark=mark)

    def construct_parsed_mapping(self, node: yaml.MappingNode) -> Iterator[ParsedMapping]:
        mapping = ParsedMapping()
        yield mapping
        mapping.repeated.update(self._repeated[node])
        mapping.update(self.construct_mapping(node))


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _StrictLoader.construct_parsed_mapping)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _repeated_keys(node: yaml.MappingNode) -> dict[str, str]:
    seen: set[Hashable] = set()
    repeated: dict[str, str] = {}
    for key, _value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            repeated[key.value] = f"line {key.start_mark.line + 1}"
        seen.add((key.tag, key.value))
    return repeated
