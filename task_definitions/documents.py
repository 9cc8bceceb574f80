"""Parses the text of definition files into Python data, without interpreting the data.

The same rules apply to JSON and YAML: a file is UTF-8 text of limited size with one document. Repeated keys are
recorded.
"""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from task_definitions.errors import UnreadableDefinitionFile
from task_definitions.foreign_documents import (
    BoundedLoader,
    Bounds,
    UnreadableDocument,
    parse_json,
    parse_yaml,
    read_foreign_file,
)
from task_definitions.plain import ParsedMapping

#: The extensions of definition files.
DEFINITION_SUFFIXES = (".json", ".yaml", ".yml")
_REMEDY = "Correct the text."


def read_definition_file(path: Path) -> object:
    """Return the parsed content of the file at `path`.

    Raises:
        UnreadableDefinitionFile: the file is missing, unreadable, or not a regular file; its extension is not in
            `DEFINITION_SUFFIXES`; or its content is too large, not UTF-8, empty, or not well-formed.
    """
    source = str(path)
    if path.suffix.lower() not in DEFINITION_SUFFIXES:
        raise UnreadableDefinitionFile("is not a definition file: give a .json, .yaml or .yml file.", source=source)
    try:
        content = read_foreign_file(path)
    except UnreadableDocument as error:
        raise UnreadableDefinitionFile(error.problem, source=source) from error
    return parse_definition_text(content, source=source, is_json=path.suffix.lower() == ".json")


def parse_definition_text(content: bytes, *, source: str, is_json: bool) -> object:
    """Return the parsed `content`; `source` names it in errors.

    Raises:
        UnreadableDefinitionFile: the content is too large, not UTF-8, empty, or not well-formed.
    """
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        problem = "is empty: give one definition, or a mapping of names to definitions."
        raise UnreadableDefinitionFile(problem, source=source)
    try:
        if is_json:
            return parse_json(content, source=source, remedy=_REMEDY, object_pairs_hook=_json_mapping)
        return parse_yaml(content, source=source, remedy=_REMEDY, loader=_DefinitionLoader)
    except UnreadableDocument as error:
        raise UnreadableDefinitionFile(error.problem, source=source) from error


def _json_mapping(pairs: list[tuple[str, object]]) -> ParsedMapping:
    mapping = ParsedMapping()
    for key, value in pairs:
        if key in mapping:
            mapping.repeated[key] = ""
        mapping[key] = value
    return mapping


class _DefinitionLoader(BoundedLoader):
    """A YAML loader that keeps dates as text and records repeated keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and form that PyYAML looks for.
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str, bounds: Bounds) -> None:
        super().__init__(stream, bounds)
        self._repeated: dict[yaml.Node, dict[str, str]] = {}

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Read one mapping and note its repeated keys; PyYAML calls this method."""
        node = super().compose_mapping_node(anchor)
        self._repeated[node] = _repeated_keys(node)
        return node

    def construct_parsed_mapping(self, node: yaml.MappingNode) -> Iterator[ParsedMapping]:
        mapping = ParsedMapping()
        yield mapping
        mapping.repeated.update(self._repeated[node])
        mapping.update(self.construct_mapping(node))


_DefinitionLoader.add_constructor("tag:yaml.org,2002:map", _DefinitionLoader.construct_parsed_mapping)


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
