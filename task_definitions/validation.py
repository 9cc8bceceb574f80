"""Turns the body of one definition into a `TaskDefinition`, or into a list of all its problems.

pydantic finds the problems. This module writes the messages, which name the field and what is allowed.
`task_definitions.loader` reads files, and passes the step types that are known (`known_step_type_names` in
`task_definitions.step_types`).
"""

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from task_definitions.cron import CRON_FORM
from task_definitions.documents import parse_definition_text
from task_definitions.errors import DefinitionError, DefinitionErrors, InvalidDefinition, UnknownKey, UnknownStepType
from task_definitions.model import (
    MAX_ATTEMPTS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_ITEMS_PER_JOB,
    MAX_LABEL_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PRIORITY,
    MAX_STEPS,
    StepDefinition,
    TaskDefinition,
)
from task_definitions.plain import plain
from task_definitions.schedule import MAX_SECONDS, Schedule, did_you_mean_timezone
from task_definitions.scope import Scope
from task_definitions.wording import did_you_mean, listed, shown

#: The source in errors about a pinned definition, which is the definition that is stored with a task.
PINNED_SOURCE = "<pinned>"

_NAME = f"1 to {MAX_NAME_CHARACTERS} characters, a small letter first, then small letters, digits and _"
# Every key of the models of a definition, with what it allows.
_ALLOWED = {
    "name": _NAME,
    "label": f"text of 1 to {MAX_LABEL_CHARACTERS} characters on one line",
    "user_relevant": "true or false",
    "scope": listed(Scope),
    "description": f"text of up to {MAX_DESCRIPTION_CHARACTERS} characters",
    "schedule": "a cron text, or a mapping with cron or interval_seconds, and optionally timezone",
    "steps": f"a list of 1 to {MAX_STEPS} steps",
    "steps[]": "a mapping with type and priority",
    "steps[].type": "the name of a step type",
    "steps[].priority": f"a whole number from 0 to {MAX_PRIORITY}",
    "steps[].max_attempts": f"a whole number from 1 to {MAX_ATTEMPTS}",
    "steps[].retry_delay_seconds": f"a number from 0 to {MAX_SECONDS}",
    "steps[].timeout_seconds": f"a number above 0 and up to {MAX_SECONDS}",
    "steps[].chunk_size": f"a whole number from 1 to {MAX_ITEMS_PER_JOB}",
    "steps[].on_failure": "stop or continue",
    "steps[].run_if": f"the name of a flag: {_NAME}",
    "steps[].params": "a mapping",
    "schedule.cron": CRON_FORM,
    "schedule.interval_seconds": f"a number from 1 to {MAX_SECONDS}",
    "schedule.timezone": 'the name of a time zone, as in "Europe/Berlin"',
}
_CHOICES = {"scope": tuple(Scope), "steps[].on_failure": ("stop", "continue")}
_MODELS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "": ("a definition", TaskDefinition),
    "steps[]": ("a step", StepDefinition),
    "schedule": ("a schedule", Schedule),
}


def read_definition(
    name: str, body: object, *, source: str, known_step_types: Collection[str] | None = None
) -> TaskDefinition:
    """Return the definition called `name`, which `body` declares.

    `source` names the file or mapping in errors. The body may repeat the name as its `name`. Steps may only have types
    of `known_step_types`; if it is None, every type is allowed.

    Raises:
        DefinitionErrors: the body is not a valid definition; the error lists all problems.
    """
    copy = plain(body)
    wrong = partial(InvalidDefinition, source=source, definition=name)
    errors: list[DefinitionError] = [
        problem.error(problem.text, source=source, definition=name, field=problem.field or None)
        for problem in copy.problems
    ]
    if not isinstance(copy.value, dict):
        if not errors:
            errors.append(wrong(f"{shown(copy.value)} is not a definition: give a mapping with label and steps."))
        raise DefinitionErrors(errors)
    if copy.is_cut:
        # The value was too large, so a part of it is missing here. Further checks would report this part as missing.
        raise DefinitionErrors(errors)
    own_name = copy.value.pop("name", name)
    if own_name != name:
        text = f"{shown(own_name)} differs from the key of the definition: leave the name out, or give {shown(name)}."
        errors.append(wrong(text, field="name"))
    if known_step_types is not None:
        errors += _unknown_step_types(copy.value, known_step_types, source=source, name=name)
    reported = {error.field for error in errors}
    try:
        definition = TaskDefinition.model_validate({**copy.value, "name": name})
    except ValidationError as invalid:
        faults = invalid.errors(include_url=False)
        for fault in faults:
            error = _explained(fault, copy.value, source=source, name=name)
            if error.field not in reported and not _is_consequence(fault, faults):
                errors.append(error)
    if errors:
        raise DefinitionErrors(sorted(errors, key=_step_index))
    return definition


def read_pinned_definition(pinned: str | Mapping[str, Any]) -> TaskDefinition:
    """Return the definition that `TaskDefinition.to_json` or `to_mapping` wrote.

    Step types are not checked, because a task keeps its definition even if a handler is no longer installed.

    Raises:
        DefinitionErrors: `pinned` is not such a definition; the error lists all problems.
    """
    document: object = pinned
    if isinstance(pinned, str):
        try:
            content = pinned.encode("utf-8", "surrogatepass")
            document = parse_definition_text(content, source=PINNED_SOURCE, is_json=True)
        except DefinitionError as error:
            raise DefinitionErrors([error]) from error
    if not isinstance(document, Mapping) or len(document) != 1:
        text = "is not a pinned definition: give a mapping of one name to one definition."
        raise DefinitionErrors([InvalidDefinition(text, source=PINNED_SOURCE)])
    ((name, body),) = document.items()
    return read_definition(name, body, source=PINNED_SOURCE)


def _unknown_step_types(
    body: Mapping[str, JsonValue], known: Collection[str], *, source: str, name: str
) -> list[DefinitionError]:
    steps = body.get("steps")
    errors: list[DefinitionError] = []
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        type_name = step.get("type") if isinstance(step, dict) else None
        if isinstance(type_name, str) and type_name not in known:
            text = (
                f"{shown(type_name)} is not a step type.{did_you_mean(type_name, known)} "
                f"`photojobs steps list` shows all {len(known)}."
            )
            errors.append(UnknownStepType(text, source=source, definition=name, field=f"steps[{index}].type"))
    return errors


def _is_consequence(fault: ErrorDetails, faults: Collection[ErrorDetails]) -> bool:
    # If no step is valid, pydantic also reports that the list of valid steps is too short.
    own = fault["loc"]
    return any(len(other["loc"]) > len(own) and other["loc"][: len(own)] == own for other in faults)


def _step_index(error: DefinitionError) -> int:
    match = re.match(r"steps\[(\d+)\]", error.field or "")
    return int(match[1]) if match else -1


def _explained(fault: ErrorDetails, body: Mapping[str, JsonValue], *, source: str, name: str) -> DefinitionError:
    location = fault["loc"]
    if location[:1] == ("schedule",) and isinstance(body.get("schedule"), str):
        # A schedule that is a cron text has no keys, so an error must not name `schedule.cron`.
        field, kind = "schedule", "schedule.cron"
    else:
        field, kind = _spelled(location, with_index=True), _spelled(location, with_index=False)
    if fault["type"] == "extra_forbidden":
        return _unknown_key(location, source=source, name=name, field=field)
    allowed = _ALLOWED.get(kind, "another value")
    if fault["type"] == "missing":
        return InvalidDefinition(f"is missing: give {allowed}.", source=source, definition=name, field=field)
    value = fault["input"]
    reason = fault.get("ctx", {}).get("error")
    text = f"{shown(value)} is not allowed{f' ({reason})' if reason else ''}: give {allowed}."
    if isinstance(value, str):
        is_timezone = kind == "schedule.timezone"
        text += did_you_mean_timezone(value) if is_timezone else did_you_mean(value, _CHOICES.get(kind, ()))
    return InvalidDefinition(text, source=source, definition=name, field=field)


def _unknown_key(location: tuple[int | str, ...], *, source: str, name: str, field: str) -> UnknownKey:
    thing, model = _MODELS[_spelled(location[:-1], with_index=False)]
    key, keys = str(location[-1]), tuple(model.model_fields)
    text = f"is not a key of {thing}.{did_you_mean(key, keys)} Allowed are {listed(keys, last='and')}."
    return UnknownKey(text, source=source, definition=name, field=field)


def _spelled(location: tuple[int | str, ...], *, with_index: bool) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]" if with_index else "[]"
        else:
            text += f".{part}" if text else part
    return text
