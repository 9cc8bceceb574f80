"""A definition is compiled into a Prefect flow with the right name, description and parameters."""

from __future__ import annotations

import re
from typing import Any

import cloudpickle
import pytest

from flows import catalog
from flows.errors import MissingHandler
from flows.orchestration.compiler import compile_task
from flows.orchestration.job_task_runner import JobTaskRunner
from flows.process.runtime import Runtime
from task_definitions import load_definitions
from task_definitions.model import NAME_PATTERN


def parameters(flow: Any) -> dict[str, Any]:
    return flow.parameters.model_dump()["properties"]


@pytest.mark.parametrize(
    ("scope", "fields", "required"),
    [
        ("project", {"project_id"}, ["project_id"]),
        ("photo_set", {"items", "select", "project_id"}, []),
        ("global", set(), []),
    ],
)
def test_the_parameters_follow_from_the_scope(define: Any, scope: str, fields: set[str], required: list[str]) -> None:
    flow = compile_task(define("some", {"type": "count", "priority": 95}, scope=scope))

    assert set(parameters(flow)) == fields | {"tenant_id", "force", "reason", "payload", "source", "task_id", "plan"}
    assert flow.parameters.model_dump().get("required", []) == required


def test_a_flow_is_named_and_described_by_its_definition(define: Any) -> None:
    flow = compile_task(define("night_watch", {"type": "count", "priority": 95}, scope="global"))

    assert flow.name == "night_watch"
    assert flow.description is not None
    assert flow.description.startswith("Night Watch\n")
    assert "1. `count` (priority 95): Counts projects." in flow.description


def test_a_definition_whose_step_has_no_handler_says_so(runtime: Runtime) -> None:
    mapping = {"odd": {"label": "Odd", "scope": "global", "steps": [{"type": "not_here", "priority": 5}]}}
    definition = load_definitions(mapping, builtin=False, step_types=["not_here"])["odd"]

    with pytest.raises(MissingHandler, match='"not_here" is not a step type that this installation can run'):
        compile_task(definition)


def test_every_built_in_definition_is_an_importable_flow() -> None:
    for name, definition in load_definitions().items():
        flow = getattr(catalog, name)
        assert flow.name == name
        assert definition.label in str(flow.description)


def test_the_catalog_has_nothing_else() -> None:
    # Another name that begins with a small letter would hide the definition of this name.
    assert [name for name in vars(catalog) if name[0].islower()] == ["drain_queue"]
    with pytest.raises(AttributeError, match="no_such_flow"):
        _ = catalog.no_such_flow


def test_no_definition_has_a_name_that_the_catalog_uses_itself() -> None:
    names = [name for name in vars(catalog) if re.fullmatch(NAME_PATTERN, name)]
    body = {"label": "Mine", "scope": "global", "steps": [{"type": "manifest_check", "priority": 5}]}

    loaded = load_definitions(dict.fromkeys([*names, "cache"], body), strict=False, builtin=False)

    assert "drain_queue" in names
    assert ([*loaded], [error.definition for error in loaded.errors]) == (["cache"], names)


def test_the_task_runner_of_a_flow_goes_to_other_processes_with_it(define: Any) -> None:
    runner = compile_task(define("travels", {"type": "count", "priority": 50})).task_runner

    assert isinstance(cloudpickle.loads(cloudpickle.dumps(runner)), JobTaskRunner)


def test_a_flow_that_a_process_runs_again_is_made_once(define: Any) -> None:
    def compiled(**params: Any) -> Any:
        return compile_task(define("again", {"type": "count", "priority": 50, "params": params}))

    assert compiled(depth=1) is compiled(depth=1)
    assert compiled(depth=1) is not compiled(depth=2)
