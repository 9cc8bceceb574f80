"""`photojobs definitions new`: write a commented file as the start of your own definition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.options.errors import BadInput, UnwritableFile
from deployments.cli.output.terminal import remark, say
from storage.settings import Settings
from task_definitions import Scope, load_definitions
from task_definitions.json_schema import render
from task_definitions.model import MAX_LABEL_CHARACTERS, MAX_NAME_CHARACTERS, MAX_STEPS, NAME_PATTERN, RESERVED_NAMES
from task_definitions.step_types import StepType, known_step_type_names, step_types
from task_definitions.wording import did_you_mean, shown

#: The JSON Schema for editors, beside the definitions. It is hidden, so that it is not read as a definition.
SCHEMA_FILE = ".photojobs.schema.json"

#: The steps of a new definition if `--step` is not given. They check, and make only safe repairs.
DEFAULT_STEPS = ("manifest_check", "derivative_validation")

app = App(name="new")


@app.default
def new(
    name: str,
    /,
    *,
    step: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True, show_default=False)] = (),
    scope: Annotated[Scope, Parameter(name_transform=str.lower)] = Scope.GLOBAL,
    label: str | None = None,
    output: Path | None = None,
) -> None:
    """Write a new file with a commented definition that is ready to run.

    Args:
        name: The name of the definition: lowercase letters, digits and _.
        step: The types of its steps, in order; `photojobs steps list` shows all.
        scope: What a run works on: one project, photos that each run names, or all projects of a tenant.
        label: The title that people see instead of the name.
        output: The file to write; by default NAME.yaml in the folder that PHOTOJOBS_DEFINITIONS names, else in the
            working folder. An existing file is never overwritten.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > MAX_NAME_CHARACTERS:
        raise BadInput(
            f"{shown(name)} is not a valid name. Use at most {MAX_NAME_CHARACTERS} lowercase letters, digits and _, "
            "with a letter first."
        )
    _check_steps(step)
    label = name.replace("_", " ").title() if label is None else label
    if not label.isprintable() or not label.strip() or len(label) > MAX_LABEL_CHARACTERS:
        raise BadInput(
            f"--label: {shown(label)} is not a valid label. Use 1 to {MAX_LABEL_CHARACTERS} visible characters on one "
            "line."
        )
    folder = Settings.load().definitions
    known = load_definitions(folder, strict=False)
    if name in known or name in RESERVED_NAMES:
        raise BadInput(f"{name} is already defined in {known.sources.get(name, 'flows.catalog')}. Choose another name.")
    file = output or ((folder if folder is not None and folder.is_dir() else Path()) / f"{name}.yaml")
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise BadInput(f"{file}: the new definition is YAML, so the name of its file must end in .yaml.")
    _write_new(file, commented_definition(name, label=label, scope=scope, steps=step or DEFAULT_STEPS))
    say(str(file))
    _write_schema(file.parent / SCHEMA_FILE)
    if folder is None or folder.resolve() not in (file.resolve(), file.resolve().parent):
        remark(f"To use the definition, set PHOTOJOBS_DEFINITIONS to {file} or its folder.")


def commented_definition(name: str, *, label: str, scope: Scope, steps: Sequence[str]) -> str:
    """Return the text of a definition file, with comments that explain its fields."""
    known = step_types()
    quoted = '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "#",
        "# A definition: what happens to the photographs, step by step. With the line above, editors can complete and",
        "# check the definition. `photojobs definitions lint` checks it, `photojobs definitions graph` draws it, and",
        "# `photojobs plan` shows what it would do.",
        "",
        f"{name}:",
        "  # The title that people see instead of the name.",
        f"  label: {quoted}",
        "",
        "  # What it does, and when to run it.",
        "  # description: >-",
        "  #   Checks every project at night.",
        "",
        "  # project: one project, named at each run. photo_set: the photos that a run names. global: all projects.",
        f"  scope: {scope}",
        "",
        "  # When `photojobs up` or `serve` starts the definition: a cron text, or a mapping.",
        '  # schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}',
        "",
        "  # The steps run one after the other. From priority 90 on, jobs run in the priority lane.",
        "  steps:",
    ]
    for number, name_of_step in enumerate(steps):
        lines += [] if number == 0 else [""]
        lines += _commented_step(name_of_step, known.get(name_of_step), is_first=number == 0)
    return "\n".join(lines) + "\n"


def _commented_step(type: str, known: StepType | None, *, is_first: bool) -> list[str]:
    lines = [f"    # {known.summary}"] if known is not None else []
    lines += [f"    - type: {type}", "      priority: 85"]
    if is_first:
        lines += [
            "      # If the step fails: continue runs the next steps, stop (the default) ends the task.",
            "      on_failure: continue",
            "      # The number of attempts, and the time limit of one attempt; by default, settings decide.",
            "      # max_attempts: 3",
            "      # timeout_seconds: 3600",
        ]
    else:
        lines.append("      on_failure: continue")
    if known is not None and known.unit == "items":
        lines.append("      # chunk_size: 500  # The number of photos in a job; the jobs of a step run side by side.")
    return lines


def _check_steps(types: Sequence[str]) -> None:
    known = known_step_type_names()
    problems = [
        f"{shown(word)} is not a step type.{did_you_mean(word, known)} `photojobs steps list` shows all."
        for word in types
        if word not in known
    ]
    if len(types) > MAX_STEPS:
        problems.append(
            f"--step: {len(types)} steps are given, but a definition has at most {MAX_STEPS}. Leave some out."
        )
    if problems:
        raise BadInput("\n".join(problems))


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise BadInput(f"{file} already exists, and was not changed. Name another file with --output.") from None
    except OSError as error:
        raise UnwritableFile(file, error) from None


def _write_schema(file: Path) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(render())
    except FileExistsError:
        # The existing schema may belong to a version with other steps; `definitions schema --output` replaces it.
        return
    except OSError as error:
        remark(
            f"{file}: the JSON Schema cannot be written ({error.strerror}), so editors cannot complete the definition. "
            "`photojobs definitions schema --output FILE` writes the schema to another file."
        )
