"""Finds definitions in files, folders, mappings and the package itself, and collects all their problems.

The setting `definitions` names the file or folder of a user. The first of two definitions with one name is used, the
built-in one if there is one. Commands and servers load with `strict=False`: a faulty definition leaves the others
usable.
"""

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from task_definitions.definitions import Definitions, LoadedDefinition
from task_definitions.documents import DEFINITION_SUFFIXES, parse_definition_text, read_definition_file
from task_definitions.errors import (
    DefinitionError,
    DefinitionErrors,
    DuplicateDefinition,
    InvalidDefinition,
    UnreadableDefinitionFile,
)
from task_definitions.model import RESERVED_NAMES, TaskDefinition
from task_definitions.plain import ParsedMapping
from task_definitions.step_types import BUILTIN_STEP_TYPES, known_step_type_names
from task_definitions.validation import read_definition
from task_definitions.wording import shown

#: The source in errors about definitions that a program gave as a mapping.
MAPPING_SOURCE = "<mapping>"


def load_definitions(
    source: str | os.PathLike[str] | Mapping[str, object] | None = None,
    *,
    strict: bool = True,
    builtin: bool = True,
    step_types: Collection[str] | None = None,
) -> Definitions:
    """Load definitions, and report all their problems at once.

    Args:
        source: A file, a folder, a mapping in the form of a file, or None for the built-in definitions alone. Of a
            folder, all `.json`, `.yaml` and `.yml` files are read in order of name, without hidden files and
            subfolders. A file has either a mapping of names to definitions, or one definition. One definition has the
            name in its field `name`, else the file's name without extension.
        strict: Whether to raise an error if there is a problem. If false, the result has the valid definitions, and its
            `errors` has the problems.
        builtin: Whether the built-in definitions are loaded, too. Other definitions cannot replace them.
        step_types: The step types that definitions of `source` may use; by default, all known step types.

    Raises:
        DefinitionErrors: `strict` is set and there are problems; the error lists all of them.
    """
    collected = _Collected()
    if builtin:
        for loaded in _builtin_definitions():
            collected.add(loaded)
    if source is not None:
        known = known_step_type_names() if step_types is None else frozenset(step_types)
        _collect(source, into=collected, known_step_types=known)
    if strict and collected.errors:
        raise DefinitionErrors(collected.errors)
    return Definitions(collected.loaded.values(), errors=collected.errors)


@dataclass
class _Collected:
    loaded: dict[str, LoadedDefinition] = field(default_factory=dict)
    errors: list[DefinitionError] = field(default_factory=list)

    def add(self, entry: LoadedDefinition) -> None:
        name = entry.definition.name
        if name in RESERVED_NAMES:
            problem = "is a name that flows.catalog uses itself. Give this definition another name."
            self.errors.append(InvalidDefinition(problem, source=entry.source, definition=name))
            return
        earlier = self.loaded.setdefault(name, entry)
        if earlier is not entry:
            problem = (
                f"is already defined in {earlier.source}, and that definition is used. "
                "Give this definition another name."
            )
            self.errors.append(DuplicateDefinition(problem, source=entry.source, definition=name))


@functools.cache
def _builtin_definitions() -> tuple[LoadedDefinition, ...]:
    collected = _Collected()
    folder = resources.files("task_definitions") / "builtin"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            source = f"built-in {file.name}"
            document = parse_definition_text(file.read_bytes(), source=source, is_json=False)
            stem = file.name.removesuffix(".yaml")
            _declare(document, source=source, stem=stem, into=collected, known_step_types=BUILTIN_STEP_TYPES.keys())
    if collected.errors:
        raise DefinitionErrors(collected.errors)
    return tuple(collected.loaded.values())


def _collect(
    source: str | os.PathLike[str] | Mapping[str, object], *, into: _Collected, known_step_types: Collection[str]
) -> None:
    if isinstance(source, Mapping):
        _declare(source, source=MAPPING_SOURCE, stem=None, into=into, known_step_types=known_step_types)
        return
    try:
        files = _definition_files(Path(source))
    except DefinitionError as error:
        into.errors.append(error)
        return
    for file in files:
        try:
            document = read_definition_file(file)
        except DefinitionError as error:
            into.errors.append(error)
        else:
            _declare(document, source=str(file), stem=file.stem, into=into, known_step_types=known_step_types)


def _definition_files(path: Path) -> Iterable[Path]:
    try:
        if not path.exists():
            raise UnreadableDefinitionFile("does not exist. Give a definition file or a folder.", source=str(path))
        if not path.is_dir():
            return [path]
        # Hidden files are leftovers of editors and other systems (`.nightly.yaml.swp`, `._nightly.yaml`).
        return [
            entry
            for entry in sorted(path.iterdir())
            if entry.suffix.lower() in DEFINITION_SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()
        ]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problem = f"cannot be read: {reason}. Check its path and permissions."
        raise UnreadableDefinitionFile(problem, source=str(path)) from error


def _declare(
    document: object, *, source: str, stem: str | None, into: _Collected, known_step_types: Collection[str]
) -> None:
    """Add the definitions of a document, which is one definition or a mapping of names to definitions.

    One definition without a name is called `stem`.
    """
    if not isinstance(document, Mapping):
        what = "nothing" if document is None else f"{shown(document)} at the top"
        problem = f"holds {what}: give one definition, or a mapping of names to definitions."
        into.errors.append(UnreadableDefinitionFile(problem, source=source))
        return
    if not document and stem is not None:
        problem = "holds no definition: give one definition, or a mapping of names to definitions."
        into.errors.append(UnreadableDefinitionFile(problem, source=source))
    is_one = _is_one_definition(document)
    for name, body in ((document.get("name", stem), document),) if is_one else document.items():
        if not isinstance(name, str):
            into.errors.append(_misnamed(name, source=source, is_one=is_one))
        elif not is_one and isinstance(document, ParsedMapping) and name in document.repeated:
            again = f" (again in {document.repeated[name]})" if document.repeated[name] else ""
            problem = f"is in the same file twice{again}, so neither is used. Give one of them another name."
            into.errors.append(DuplicateDefinition(problem, source=source, definition=name))
        else:
            try:
                definition = read_definition(name, body, source=source, known_step_types=known_step_types)
            except DefinitionErrors as invalid:
                into.errors.extend(invalid.errors)
            else:
                into.add(LoadedDefinition(definition=definition, source=source))


def _is_one_definition(document: Mapping[str, object]) -> bool:
    # In a mapping of several definitions, every value is a mapping, even if a definition's name is "label" or "steps".
    return any(key in document and not isinstance(document[key], Mapping) for key in TaskDefinition.model_fields)


def _misnamed(name: object, *, source: str, is_one: bool) -> InvalidDefinition:
    problem = f"{shown(name)} is not a name: names are text. Put it in quotes."
    if is_one and name is None:
        problem = "is missing. Give the definition a name."
    return InvalidDefinition(problem, source=source, field="name" if is_one else None)
