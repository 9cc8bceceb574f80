"""Compares two sets of loaded definitions. Differences name fields as definition files do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from task_definitions.model import StepDefinition, TaskDefinition

Kind = Literal["added", "removed", "changed", "moved"]

#: A difference shows this text for a missing value.
_NOTHING = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One difference between two versions of a definition.

    Attributes:
        where: the place of the change: `label` for a field of the definition, `steps[2] metadata: priority` for a field
            of a step, or `steps[2] metadata` for a whole step. The number counts from 0, in the newer version or, if
            the newer version lacks the step, in the older version.
        kind: the kind of change; only whole steps are `moved`.
        before: the former value, or the former number of a moved step; None if the field or step was added.
        after: the new value, or the new number of a moved step; None if the field or step was removed.
    """

    where: str
    kind: Kind
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        if self.kind in ("added", "removed"):
            return f"{self.where} {self.kind}"
        if self.kind == "moved":
            return f"{self.where} moved from steps[{self.before}]"
        return f"{self.where} {_text(self.before)} → {_text(self.after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionDifference:
    """A definition that was added, removed or changed. `fields` has entries only if it was changed."""

    name: str
    kind: Literal["added", "removed", "changed"]
    fields: tuple[FieldDifference, ...] = ()

    def __str__(self) -> str:
        details = "; ".join(map(str, self.fields))
        return f"{self.name}: {self.kind}" + (f": {details}" if details else "")


def compare_definitions(
    before: Mapping[str, TaskDefinition], after: Mapping[str, TaskDefinition]
) -> tuple[DefinitionDifference, ...]:
    """Return the differences between two sets of definitions, in order of name; empty if the sets are equal."""
    found = []
    for name in sorted({*before, *after}):
        if name not in after:
            found.append(DefinitionDifference(name=name, kind="removed"))
        elif name not in before:
            found.append(DefinitionDifference(name=name, kind="added"))
        elif fields := compare_definition(before[name], after[name]):
            found.append(DefinitionDifference(name=name, kind="changed", fields=fields))
    return tuple(found)


def compare_definition(before: TaskDefinition, after: TaskDefinition) -> tuple[FieldDifference, ...]:
    """Return the differences between two versions of a definition; a step that moved is recognized by its type."""
    return (*_fields("", _plain(before, {"steps"}), _plain(after, {"steps"})), *_steps(before.steps, after.steps))


def _steps(before: Sequence[StepDefinition], after: Sequence[StepDefinition]) -> Iterator[FieldDifference]:
    pairs, moved = _pairs([step.type for step in before], [step.type for step in after])
    for index, step in enumerate(before):
        if index not in pairs.values():
            yield FieldDifference(where=f"steps[{index}] {step.type}", kind="removed", before=_plain(step))
    for index, step in enumerate(after):
        where = f"steps[{index}] {step.type}"
        if index not in pairs:
            yield FieldDifference(where=where, kind="added", after=_plain(step))
            continue
        if index in moved:
            yield FieldDifference(where=where, kind="moved", before=pairs[index], after=index)
        yield from _fields(f"{where}: ", _plain(before[pairs[index]], {"type"}), _plain(step, {"type"}))


def _pairs(before: list[str], after: list[str]) -> tuple[dict[int, int], set[int]]:
    """Return the former number of each step of `after` that existed before, and the steps that moved."""
    pairs: dict[int, int] = {}
    for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        pairs.update((block.b + offset, block.a + offset) for offset in range(block.size))
    left = [index for index in range(len(before)) if index not in pairs.values()]
    moved = set()
    for index, step_type in enumerate(after):
        former = next((each for each in left if before[each] == step_type), None)
        if index not in pairs and former is not None:
            left.remove(former)
            pairs[index] = former
            moved.add(index)
    return pairs, moved


def _fields(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[FieldDifference]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield FieldDifference(
                where=f"{prefix}{name}", kind="changed", before=before.get(name), after=after.get(name)
            )


def _plain(model: TaskDefinition | StepDefinition, without: set[str] | None = None) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude=without)


def _text(value: Any) -> str:
    return _NOTHING if value is None else json.dumps(value, ensure_ascii=False)
