"""Each error in a definition has one line that says where it is, what is wrong, and what is allowed."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from task_definitions import (
    DefinitionError,
    DefinitionErrors,
    DuplicateDefinition,
    DuplicateKey,
    InvalidDefinition,
    UnknownDefinition,
    UnknownKey,
    UnknownStepType,
    UnreadableDefinitionFile,
    load_definitions,
)
from task_definitions.model import Schedule, StepDefinition, TaskDefinition

STEP = {"type": "metadata", "priority": 90}
DEFINITION_KEYS = "name, label, user_relevant, scope, description, schedule and steps"
STEP_KEYS = (
    "type, priority, max_attempts, retry_delay_seconds, timeout_seconds, chunk_size, on_failure, run_if and params"
)
CRON = 'give five fields "minute hour day-of-month month day-of-week", as in "0 3 * * *", or a shorthand like "@daily"'
NAME = "1 to 64 characters, a small letter first, then small letters, digits and _"


def definition(**changes: Any) -> dict[str, Any]:
    return {"label": "Nightly", "scope": "project", "steps": [STEP], **changes}


def with_step(**changes: Any) -> dict[str, Any]:
    return definition(steps=[STEP, STEP, {**STEP, **changes}])


def problems_of(source: Any, **options: Any) -> list[DefinitionError]:
    with pytest.raises(DefinitionErrors) as raised:
        load_definitions(source, **options)
    assert str(raised.value).splitlines() == [str(error) for error in raised.value.errors]
    return list(raised.value.errors)


def only_problem_of(source: Any, **options: Any) -> DefinitionError:
    (problem,) = problems_of(source, **options)
    return problem


ValueCase = tuple[dict[str, Any], type[DefinitionError], str, str]
FileCase = tuple[str, bytes, type[DefinitionError], str]


def of_definition(problem: str, **change: Any) -> ValueCase:
    """Return the case of a value that a key of a definition does not allow."""
    (key,) = change
    return definition(**change), InvalidDefinition, key, problem


def of_step(problem: str, **change: Any) -> ValueCase:
    """Return the case of a value that a key of a step does not allow."""
    (key,) = change
    return with_step(**change), InvalidDefinition, f"steps[2].{key}", problem


def unreadable(name: str, content: bytes, problem: str) -> FileCase:
    return name, content, UnreadableDefinitionFile, problem


VALUE_ERRORS: list[ValueCase] = [
    (
        with_step(type="manifest_chek"),
        UnknownStepType,
        "steps[2].type",
        '"manifest_chek" is not a step type. Did you mean "manifest_check"? `photojobs steps list` shows all 21.',
    ),
    (
        with_step(type="Make Coffee"),
        UnknownStepType,
        "steps[2].type",
        '"Make Coffee" is not a step type. `photojobs steps list` shows all 21.',
    ),
    of_step("7 is not allowed: give the name of a step type.", type=7),
    of_step("101 is not allowed: give a whole number from 0 to 100.", priority=101),
    of_step("-1 is not allowed: give a whole number from 0 to 100.", priority=-1),
    of_step("true is not allowed: give a whole number from 0 to 100.", priority=True),
    of_step('"95" is not allowed: give a whole number from 0 to 100.', priority="95"),
    of_step("95.0 is not allowed: give a whole number from 0 to 100.", priority=95.0),
    of_step("nan is not allowed: give a finite number.", priority=float("nan")),
    of_step("is not allowed: give a whole number from -9223372036854775807 to 9223372036854775807.", priority=10**5000),
    of_step("2001 is not allowed: give a whole number from 1 to 2000.", chunk_size=2001),
    of_step("0 is not allowed: give a whole number from 1 to 2000.", chunk_size=0),
    of_step("0 is not allowed: give a whole number from 1 to 1000.", max_attempts=0),
    of_step("-0.5 is not allowed: give a number from 0 to 31622400.", retry_delay_seconds=-0.5),
    of_step("0 is not allowed: give a number above 0 and up to 31622400.", timeout_seconds=0),
    of_step('"1h" is not allowed: give a number above 0 and up to 31622400.', timeout_seconds="1h"),
    of_step('"contineu" is not allowed: give stop or continue. Did you mean "continue"?', on_failure="contineu"),
    of_step(f'"Not A Flag" is not allowed: give the name of a flag: {NAME}.', run_if="Not A Flag"),
    of_step("a list is not allowed: give a mapping.", params=[1]),
    (
        with_step(params={"sizes": [1, float("inf")]}),
        InvalidDefinition,
        "steps[2].params.sizes[1]",
        "inf is not allowed: give a finite number.",
    ),
    (
        with_step(params={"path": "a\x00b"}),
        InvalidDefinition,
        "steps[2].params.path",
        '"a\\u0000b" is not allowed: it holds a NUL character, which a database cannot keep. Remove it.',
    ),
    (
        with_step(params={"at": object()}),
        InvalidDefinition,
        "steps[2].params.at",
        "a Python object is not allowed: give text, a number, true, false, null, a list or a mapping.",
    ),
    of_step("7 is not a key: keys are text. Put it in quotes.", params={7: "x"}),
    (
        with_step(prioritiy=95),
        UnknownKey,
        "steps[2].prioritiy",
        f'is not a key of a step. Did you mean "priority"? Allowed are {STEP_KEYS}.',
    ),
    (
        definition(steps=[STEP, {"priority": 5}]),
        InvalidDefinition,
        "steps[1].type",
        "is missing: give the name of a step type.",
    ),
    (
        definition(steps=[STEP, "metadata"]),
        InvalidDefinition,
        "steps[1]",
        '"metadata" is not allowed: give a mapping with type and priority.',
    ),
    of_definition("[] is not allowed: give a list of 1 to 200 steps.", steps=[]),
    of_definition("null is not allowed: give a list of 1 to 200 steps.", steps=None),
    of_definition("a mapping is not allowed: give a list of 1 to 200 steps.", steps={"type": "x"}),
    (
        {"scope": "project", "steps": [STEP]},
        InvalidDefinition,
        "label",
        "is missing: give text of 1 to 200 characters on one line.",
    ),
    of_definition(
        '" \\n" is not allowed (it is blank, or holds a line break or a control character): '
        "give text of 1 to 200 characters on one line.",
        label=" \n",
    ),
    of_definition(
        '"projct" is not allowed: give project, photo_set or global. Did you mean "project"?', scope="projct"
    ),
    of_definition('"yes" is not allowed: give true or false.', user_relevant="yes"),
    of_definition("1 is not allowed: give true or false.", user_relevant=1),
    of_definition("a list is not allowed: give text of up to 4000 characters.", description=["x"]),
    (
        definition(lable="x"),
        UnknownKey,
        "lable",
        f'is not a key of a definition. Did you mean "label"? Allowed are {DEFINITION_KEYS}.',
    ),
    of_definition(
        f'"61 * * * *" is not allowed (the minute 61 is not between 0 and 59): {CRON}.', schedule="61 * * * *"
    ),
    (
        definition(schedule={"cron": "0 3 * *"}),
        InvalidDefinition,
        "schedule.cron",
        f'"0 3 * *" is not allowed (it has 4 fields instead of 5): {CRON}.',
    ),
    (
        definition(schedule={"cron": "0 3 * * *", "timezone": "Europe/Berln"}),
        InvalidDefinition,
        "schedule.timezone",
        '"Europe/Berln" is not allowed (the time zone does not exist): give the name of a time zone, '
        'as in "Europe/Berlin". Did you mean "Europe/Berlin"?',
    ),
    (
        definition(schedule={"interval_seconds": 0}),
        InvalidDefinition,
        "schedule.interval_seconds",
        "0 is not allowed: give a number from 1 to 31622400.",
    ),
    of_definition(
        "a mapping is not allowed (exactly one of cron and interval_seconds is needed): "
        "give a cron text, or a mapping with cron or interval_seconds, and optionally timezone.",
        schedule={"cron": "0 3 * * *", "interval_seconds": 60},
    ),
    of_definition(
        "5 is not allowed: give a cron text, or a mapping with cron or interval_seconds, and optionally timezone.",
        schedule=5,
    ),
    (
        definition(schedule={"corn": "0 3 * * *", "interval_seconds": 60}),
        UnknownKey,
        "schedule.corn",
        'is not a key of a schedule. Did you mean "cron"? Allowed are cron, interval_seconds and timezone.',
    ),
    of_definition(
        '"weekly_check" differs from the key of the definition: leave the name out, or give "nightly_check".',
        name="weekly_check",
    ),
]


@pytest.mark.parametrize(
    ("body", "error_class", "field", "problem"),
    VALUE_ERRORS,
    ids=[f"{case[2]}-{i}" for i, case in enumerate(VALUE_ERRORS)],
)
def test_a_wrong_value_is_named_with_its_place_and_with_what_is_allowed(
    body: dict[str, Any], error_class: type[DefinitionError], field: str, problem: str
) -> None:
    error = only_problem_of({"nightly_check": body})
    assert type(error) is error_class
    assert (error.source, error.definition, error.field, error.problem) == (
        "<mapping>",
        "nightly_check",
        field,
        problem,
    )
    assert str(error) == f"<mapping>: nightly_check: {field}: {problem}"


@pytest.mark.parametrize(
    "body",
    [
        *(definition(**{key: [[]]}) for key in TaskDefinition.model_fields if key != "name"),
        *(with_step(**{key: [[]]}) for key in StepDefinition.model_fields),
        *(definition(schedule={key: [[]]}) for key in Schedule.model_fields),
    ],
)
def test_every_key_says_what_it_allows(body: dict[str, Any]) -> None:
    assert all("another value" not in problem.problem for problem in problems_of({"nightly_check": body}))


def test_an_error_in_a_file_begins_with_the_path_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "nightly.yaml").write_text(
        "nightly_check:\n  label: Nightly\n  steps:\n"
        "    - {type: metadata, priority: 1}\n"
        "    - {type: metadata, priority: 1}\n"
        "    - {type: manifest_chek, priority: 95}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert str(only_problem_of("definitions")) == (
        'definitions/nightly.yaml: nightly_check: steps[2].type: "manifest_chek" is not a step type. '
        'Did you mean "manifest_check"? `photojobs steps list` shows all 21.'
    )


FILE_ERRORS: list[FileCase] = [
    unreadable("a.yaml", b"", "is empty: give one definition, or a mapping of names to definitions."),
    unreadable(
        "a.yaml", b"# nothing yet\n", "holds nothing: give one definition, or a mapping of names to definitions."
    ),
    unreadable("a.json", b"{}", "holds no definition: give one definition, or a mapping of names to definitions."),
    unreadable("a.json", b"[1]", "holds a list at the top: give one definition, or a mapping of names to definitions."),
    unreadable(
        "a.yaml", b"nightly", 'holds "nightly" at the top: give one definition, or a mapping of names to definitions.'
    ),
    unreadable("a.yaml", "label: ä".encode("latin-1"), "is not UTF-8 text (byte 8 is 0xe4). Save it as UTF-8."),
    unreadable("a.json", b'{"a": }', "is not well-formed JSON: line 1, column 7: Expecting value. Correct the text."),
    unreadable("a.json", b'{"label": NaN}', "is not well-formed JSON: NaN is not a JSON value. Correct the text."),
    unreadable(
        "a.json",
        b'{"a":' * 100_000,
        "is not well-formed JSON: it is nested too deeply (32 levels are allowed). Correct the text.",
    ),
    unreadable(
        "a.json",
        b'{"label": ' + b"9" * 5000 + b"}",
        "is not well-formed JSON: a number has more than 4300 digits. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"a: [1\nb: 2",
        "is not well-formed YAML: line 2, column 2: while parsing a flow sequence, expected ',' or "
        "']', but got ':'. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"label: \x01",
        "is not well-formed YAML: character 8: special characters are not allowed. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"a: 1\n---\nb: 2",
        "is not well-formed YAML: line 2, column 1: expected a single document in the stream, "
        "but found another document. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"label: !!python/object/apply:os.system [ls]",
        "is not well-formed YAML: line 1, column 8: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"label: !!int ''",
        "is not well-formed YAML: line 1, column 8: the value does not fit its tag int. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"[" * 5000,
        "is not well-formed YAML: line 1, column 33: it has more than 32 levels; "
        "an alias counts as the whole value that it names. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"a: &a {b: *a}",
        "is not well-formed YAML: line 1, column 11: an alias refers to the value that contains it; "
        "write a value instead. Correct the text.",
    ),
    unreadable(
        "a.yaml",
        b"- a\n" * 50_000,
        "is not well-formed YAML: line 40000, column 3: it has more than 40000 keys and values; "
        "an alias counts as the whole value that it names. Correct the text.",
    ),
    unreadable("a.yaml", b"#" * (1024 * 1024 + 1), "is larger than 1048576 bytes. Make it smaller."),
    unreadable("a.toml", b"label = 1", "is not a definition file: give a .json, .yaml or .yml file."),
    (
        "a.yaml",
        b"7: {label: x}",
        InvalidDefinition,
        "7 is not a name: names are text. Put it in quotes.",
    ),
    (
        "a.yaml",
        b"name: 7\nlabel: x\nsteps: []",
        InvalidDefinition,
        "name: 7 is not a name: names are text. Put it in quotes.",
    ),
    (
        "night-ly.yaml",
        b"label: x\nsteps: [{type: metadata, priority: 1}]",
        InvalidDefinition,
        f'night-ly: name: "night-ly" is not allowed: give {NAME}.',
    ),
    (
        "a.yaml",
        b"label: x\nlabel: y\nsteps: [{type: metadata, priority: 1}]",
        DuplicateKey,
        "a: label: is in the same mapping twice (again in line 2). Keep one.",
    ),
    (
        "a.json",
        b'{"label": "x", "steps": [{"type": "metadata", "priority": 1, "priority": 2}]}',
        DuplicateKey,
        "a: steps[0].priority: is in the same mapping twice. Keep one.",
    ),
    (
        "a.yaml",
        b"n: {label: x, steps: [{type: metadata}]}\nn: {label: y, steps: [{type: metadata}]}\n",
        DuplicateDefinition,
        "n: is in the same file twice (again in line 2), so neither is used. Give one of them another name.",
    ),
    (
        "a.yaml",
        b"n: 5",
        InvalidDefinition,
        "n: 5 is not a definition: give a mapping with label and steps.",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "error_class", "problem"),
    FILE_ERRORS,
    ids=[f"{case[0]}-{i}" for i, case in enumerate(FILE_ERRORS)],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, content: bytes, error_class: type[DefinitionError], problem: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    error = only_problem_of(file)
    assert type(error) is error_class
    assert str(error) == f"{file}: {problem}"


def test_aliases_that_would_grow_without_bound_are_refused_before_they_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))
    assert only_problem_of(file).problem == (
        "is not well-formed YAML: line 5, column 5: it has more than 40000 keys and values; "
        "an alias counts as the whole value that it names. Correct the text."
    )


def test_a_python_mapping_that_holds_itself_is_refused() -> None:
    params: dict[str, Any] = {}
    params["again"] = params
    error = only_problem_of({"nightly_check": with_step(params=params)})
    assert error.problem == "is nested too deeply: at most 32 levels are allowed. Flatten it."


def test_a_python_mapping_that_shares_its_parts_without_end_is_refused() -> None:
    shared: list[Any] = [0] * 10
    for _ in range(20):
        shared = [shared] * 10
    error = only_problem_of({"nightly_check": with_step(params={"shared": shared})})
    assert error.problem == "is too large: a definition may hold at most 20000 values. Make it smaller."


def test_missing_and_odd_paths_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert str(only_problem_of(missing)) == f"{missing}: does not exist. Give a definition file or a folder."
    assert "a\\x00b: " in str(only_problem_of("a\x00b"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert str(only_problem_of(tmp_path)) == f"{tmp_path / 'a.yaml'}: is not a regular file. Name a regular file."


def test_a_file_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("label: x")

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, for whom permissions have no effect.
    monkeypatch.setattr(Path, "open", refuse)
    assert str(only_problem_of(file)) == f"{file}: cannot be read: Permission denied. Check its path and permissions."


def test_a_single_definition_in_a_mapping_needs_its_name() -> None:
    error = only_problem_of(definition())
    assert str(error) == "<mapping>: name: is missing. Give the definition a name."


def test_a_builtin_definition_cannot_be_replaced() -> None:
    error = only_problem_of({"maintenance": definition()})
    assert type(error) is DuplicateDefinition
    assert str(error) == (
        "<mapping>: maintenance: is already defined in built-in maintenance.yaml, and that definition is used. "
        "Give this definition another name."
    )
    assert load_definitions({"maintenance": definition()}, builtin=False)["maintenance"].label == "Nightly"
    assert load_definitions({"maintenance": definition()}, strict=False)["maintenance"].label == "Maintenance"


def test_two_files_with_the_same_name_are_both_named(tmp_path: Path) -> None:
    for stem in ("b", "a"):
        (tmp_path / f"{stem}.yaml").write_text(f"nightly: {{label: {stem}, steps: [{{type: metadata}}]}}")
    error = only_problem_of(tmp_path)
    assert str(error) == (
        f"{tmp_path / 'b.yaml'}: nightly: is already defined in {tmp_path / 'a.yaml'}, and that definition is used. "
        "Give this definition another name."
    )


def test_all_problems_of_a_definition_are_told_at_once_in_their_order() -> None:
    errors = problems_of(
        {
            "nightly_check": definition(
                scope="projct",
                steps=[{"type": "metadata", "priority": 500}, {"type": "metadta", "priority": "1", "chunk": 3}],
            )
        }
    )
    assert [error.field for error in errors] == [
        "scope",
        "steps[0].priority",
        "steps[1].type",
        "steps[1].priority",
        "steps[1].chunk",
    ]


def test_all_problems_of_a_folder_are_told_at_once_and_the_valid_definitions_stay_usable(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"label": "A", "steps": [{"type": "metadata", "priority": 1}]}')
    (tmp_path / "b.yaml").write_text("label: [")
    (tmp_path / "c.yml").write_text(
        "good: {label: Good, steps: [{type: metadata, priority: 1}]}\nbad: {label: Bad, steps: []}\n"
    )
    (tmp_path / "d.YAML").write_text("label: D\nsteps: [{type: metadata, priority: 101}]")
    (tmp_path / "README.md").write_text("not a definition")
    (tmp_path / ".e.yaml.swp").write_text("left by an editor")
    (tmp_path / "._f.yaml").write_bytes(b"\x00\x05left by another system")
    (tmp_path / "old.yaml").mkdir()

    errors = problems_of(tmp_path)
    assert [(Path(error.source or "").name, error.definition, error.field) for error in errors] == [
        ("b.yaml", None, None),
        ("c.yml", "bad", "steps"),
        ("d.YAML", "d", "steps[0].priority"),
    ]

    definitions = load_definitions(tmp_path, strict=False, builtin=False)
    assert list(definitions) == ["a", "good"]
    assert definitions.sources == {"a": str(tmp_path / "a.json"), "good": str(tmp_path / "c.yml")}
    assert [str(error) for error in definitions.errors] == [str(error) for error in errors]


def test_an_unknown_definition_names_the_nearest_one() -> None:
    with pytest.raises(UnknownDefinition) as raised:
        load_definitions().get_or_raise("maintenence")
    assert str(raised.value) == (
        '"maintenence" is not a definition. Did you mean "maintenance"? `photojobs definitions list` shows all 16.'
    )


def test_a_definition_that_is_wrong_is_not_said_to_be_unknown() -> None:
    definitions = load_definitions({"nightly_check": definition(steps=[])}, strict=False)
    with pytest.raises(UnknownDefinition) as raised:
        definitions.get_or_raise("nightly_check")
    assert str(raised.value) == (
        '"nightly_check" cannot be used until this problem is corrected: '
        "<mapping>: nightly_check: steps: [] is not allowed: give a list of 1 to 200 steps."
    )


@pytest.mark.parametrize("hostile", ["a\nphotojobs: all is well", "a\x1b[2Jb", "a\u2028b", "a\ud800b", "a\x00b"])
def test_a_hostile_name_cannot_forge_a_line_or_break_the_printing(hostile: str) -> None:
    for source in (
        {hostile: definition()},
        {hostile: definition(name="nightly")},
        {"nightly_check": definition(**{hostile: 1})},
        {"nightly_check": with_step(type=hostile)},
        {"nightly_check": with_step(params={hostile: float("nan")})},
    ):
        for error in problems_of(source):
            assert str(error).isprintable()
            assert str(error).encode()


def test_a_huge_value_does_not_hide_the_message() -> None:
    error = only_problem_of({"nightly_check": with_step(type="x" * 500_000)})
    assert len(str(error)) < 300


def test_errors_survive_pickling() -> None:
    errors = problems_of({"nightly_check": with_step(priority=101, type="metadta")})
    group = pickle.loads(pickle.dumps(DefinitionErrors(errors)))
    assert isinstance(group, DefinitionErrors)
    assert str(group) == str(DefinitionErrors(errors))
    assert [(e.source, e.definition, e.field, e.problem) for e in group.errors] == [
        (e.source, e.definition, e.field, e.problem) for e in errors
    ]
