"""The model of a definition: a named, ordered pipeline of steps. `task_definitions.loader` finds and reads files.

`run_policy` in `flows.execution.job_run` decides which attempts, delay and time limit a job has; the settings have the
defaults.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictInt, StrictStr

from task_definitions.plain import plain, unstorable
from task_definitions.schedule import MAX_SECONDS, Schedule
from task_definitions.scope import Scope

#: The largest number of items of a job: the rows and the payload of a job must fit into one transaction.
MAX_ITEMS_PER_JOB = 2000
#: The highest priority of a step or a job; 0 is the lowest.
MAX_PRIORITY = 100
#: The largest number of attempts of a job; with more, a job would practically never end.
MAX_ATTEMPTS = 1000
#: The maximum number of steps of a definition.
MAX_STEPS = 200
#: The maximum length of the names of definitions, step types and flags, in characters.
MAX_NAME_CHARACTERS = 64
#: The maximum length of a label, in characters.
MAX_LABEL_CHARACTERS = 200
#: The maximum length of a description, in characters.
MAX_DESCRIPTION_CHARACTERS = 4000
#: The form of the names of definitions and flags, which become parts of URLs, tags and file names.
NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
#: Names that a definition must not have. Prefect finds the flow of a definition by its name in `flows.catalog`, where
#: `drain_queue` is the flow that runs standalone jobs.
RESERVED_NAMES = frozenset({"drain_queue"})
#: The form of the names of step types. Unlike names of definitions, they may have dots and hyphens.
STEP_TYPE_PATTERN = r"^[a-z][a-z0-9_.-]*$"


def _storable(text: str) -> str:
    fault = unstorable(text)
    if fault:
        raise ValueError(f"it holds {fault}")
    return text


def _one_visible_line(text: str) -> str:
    if not text.strip() or len(text.splitlines()) > 1 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        raise ValueError("it is blank, or holds a line break or a control character")
    return _storable(text)


def _plain_params(params: dict[str, JsonValue]) -> dict[str, JsonValue]:
    checked = plain(params, path="params")
    if checked.problems:
        raise ValueError(f"{checked.problems[0].field}: {checked.problems[0].text}")
    assert isinstance(checked.value, dict)  # noqa: S101 - a copy of a dict is a dict.
    return checked.value


Name = Annotated[StrictStr, Field(pattern=NAME_PATTERN, max_length=MAX_NAME_CHARACTERS)]


class StepDefinition(BaseModel):
    """A step of a definition: the handler that runs, its priority, and what happens if it fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Annotated[StrictStr, Field(pattern=STEP_TYPE_PATTERN, max_length=MAX_NAME_CHARACTERS)] = Field(
        description="The step type, which determines the handler. `photojobs steps list` shows all step types."
    )
    priority: StrictInt = Field(
        default=0,
        ge=0,
        le=MAX_PRIORITY,
        description="The priority of the step's jobs; jobs from 90 up run in the lane `priority`.",
    )
    max_attempts: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_ATTEMPTS,
        description="The maximum number of attempts of a job; by default, the setting max_attempts decides.",
    )
    retry_delay_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="The wait before the second attempt; it doubles with each further attempt, up to the setting "
        "max_retry_delay_seconds. By default, the setting retry_delay_seconds decides.",
    )
    timeout_seconds: float | None = Field(
        default=None,
        strict=True,
        gt=0,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="The maximum duration of one attempt; by default, there is no limit.",
    )
    chunk_size: StrictInt = Field(
        default=MAX_ITEMS_PER_JOB,
        ge=1,
        le=MAX_ITEMS_PER_JOB,
        description="The maximum number of items in one job of the step; more items make more jobs.",
    )
    on_failure: Literal["stop", "continue"] = Field(
        default="stop",
        description="Whether the next steps run if a job of this step failed. In both cases, the task ends as failed.",
    )
    run_if: Name | None = Field(
        default=None, description="The name of a flag; if an earlier step sets it to false, this step is skipped."
    )
    params: Annotated[dict[str, JsonValue], AfterValidator(_plain_params)] = Field(
        default_factory=dict, description="Parameters for the handler."
    )

    def __hash__(self) -> int:
        # `params` is not hashable. Equal steps have equal hashes without it.
        return hash((self.type, self.priority, self.chunk_size, self.on_failure, self.run_if))


class TaskDefinition(BaseModel):
    """A named, declared pipeline: label, scope and ordered steps.

    The constructor raises pydantic's `ValidationError` for values that are not allowed; `load_definitions` and
    `read_pinned_definition` raise `DefinitionErrors`, whose messages name the field and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="The definition's name. In a mapping of several definitions, it is the key.")
    label: Annotated[StrictStr, AfterValidator(_one_visible_line)] = Field(
        min_length=1,
        max_length=MAX_LABEL_CHARACTERS,
        description="The text that people see instead of the name, on one line.",
    )
    user_relevant: StrictBool = Field(
        default=False,
        description="Whether users start the definition and follow its runs; false for maintenance in the background.",
    )
    scope: Scope | None = Field(
        default=None,
        description="What a run works on: project (needs a project_id), photo_set (may have one) or global (has "
        "none). Without a scope, a run that has a project_id gets the scope project, any other run photo_set.",
    )
    description: Annotated[StrictStr, AfterValidator(_storable)] | None = Field(
        default=None, max_length=MAX_DESCRIPTION_CHARACTERS, description="What the definition does, and when to run it."
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When the definition runs automatically: a cron text, or a mapping with cron or interval_seconds.",
    )
    steps: tuple[StepDefinition, ...] = Field(
        min_length=1, max_length=MAX_STEPS, description="The steps, in the order in which they run."
    )

    @property
    def priority(self) -> int:
        """The highest priority of all steps."""
        return max(step.priority for step in self.steps)

    def to_mapping(self) -> dict[str, Any]:
        """Return `{name: {label, user_relevant, scope, steps, …}}`, the form of a definition file.

        Defaults are included, so that a definition that is stored with a task keeps its meaning when a default changes.
        Fields without a value are left out, such as those that a setting decides.
        """
        body = self.model_dump(mode="json", exclude_none=True, exclude={"name": True, "steps": True})
        return {self.name: {**body, "steps": [_step_mapping(step) for step in self.steps]}}

    def to_json(self) -> str:
        """Return `to_mapping()` as JSON text, equal for equal definitions; `read_pinned_definition` reads it back."""
        return json.dumps(self.to_mapping(), ensure_ascii=False, sort_keys=True, allow_nan=False)


def _step_mapping(step: StepDefinition) -> dict[str, Any]:
    # `params` is added unchanged, because a null in it is a user's value and not a missing key.
    return {**step.model_dump(mode="json", exclude_none=True, exclude={"params"}), "params": step.params}
