"""The pinned definition of a task: the copy of its definition, with the unit of each step, as it was at the start.

A task never reads definition files after its start, so a change of a file affects only later tasks.
`storage.lifecycle.state_machine` decides which step of a task runs next, and which steps `run_if` skips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from storage.errors import CorruptDefinition
from task_definitions import StepType, TaskDefinition, read_pinned_definition
from task_definitions.errors import PhotojobsError
from task_definitions.model import StepDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedStep:
    """A step of a pinned definition, with the properties that its step type had at the start of the task."""

    index: int
    definition: StepDefinition
    unit: Literal["items", "projects", "library"]
    default_items: Literal["all", "pending_deletions"]

    @property
    def type(self) -> str:
        """The step type."""
        return self.definition.type


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedDefinition:
    """A definition with the units of its steps, as it is stored in `tasks.definition_json`."""

    definition: TaskDefinition
    steps: tuple[PinnedStep, ...]

    @classmethod
    def pin(cls, definition: TaskDefinition, step_types: Mapping[str, StepType]) -> Self:
        """Return the pinned definition for `definition`, with the current properties of its step types."""
        return cls(
            definition=definition,
            steps=tuple(
                PinnedStep(
                    index=index,
                    definition=step,
                    unit=step_types[step.type].unit,
                    default_items=step_types[step.type].default_items,
                )
                for index, step in enumerate(definition.steps)
            ),
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a pinned definition that `to_json` wrote.

        Raises:
            CorruptDefinition: the document is not a pinned definition.
        """
        try:
            definition = read_pinned_definition(document["definition"])
            steps = tuple(
                PinnedStep(index=index, definition=step, unit=pin["unit"], default_items=pin["default_items"])
                for index, (step, pin) in enumerate(zip(definition.steps, document["pins"], strict=True))
            )
        except (PhotojobsError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(".")
            raise CorruptDefinition(
                f"the definition stored with the task cannot be read: {reason}. Start a new task."
            ) from error
        return cls(definition=definition, steps=steps)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object for `tasks.definition_json`."""
        return {
            "definition": self.definition.to_mapping(),
            "pins": [{"unit": step.unit, "default_items": step.default_items} for step in self.steps],
        }

    @property
    def follow_up_index(self) -> int:
        """The step index of follow-up jobs, which run after the last step."""
        return len(self.steps)
