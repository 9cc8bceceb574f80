"""The scope of a run follows from its parameters, and wrong combinations are refused."""

from typing import Any

import pytest

from task_definitions import (
    MissingProject,
    Scope,
    ScopeError,
    ScopeMismatch,
    UnexpectedProject,
    UnknownScope,
    detect_scope,
)


@pytest.mark.parametrize(
    ("scope", "project_id", "definition_scope", "expected"),
    [
        (None, 7, None, Scope.PROJECT),
        (None, None, None, Scope.PHOTO_SET),
        ("photo_set", 7, None, Scope.PHOTO_SET),
        ("photo_set", None, None, Scope.PHOTO_SET),
        ("project", 7, None, Scope.PROJECT),
        ("global", None, None, Scope.GLOBAL),
        (None, None, Scope.GLOBAL, Scope.GLOBAL),
        (None, 7, "photo_set", Scope.PHOTO_SET),
        (None, 7, Scope.PROJECT, Scope.PROJECT),
        (Scope.GLOBAL, None, "global", Scope.GLOBAL),
    ],
)
def test_the_definitions_scope_comes_first_then_the_given_one_then_the_project(
    scope: str | None, project_id: int | None, definition_scope: str | None, expected: Scope
) -> None:
    assert detect_scope(scope=scope, project_id=project_id, definition_scope=definition_scope) is expected


@pytest.mark.parametrize(
    ("scope", "project_id", "definition_scope", "error_class", "message"),
    [
        (
            "global",
            None,
            "photo_set",
            ScopeMismatch,
            'scope: "global" was given, but the definition runs with scope "photo_set". '
            'Leave the scope out, or give "photo_set".',
        ),
        (
            None,
            None,
            "project",
            MissingProject,
            'project_id: is missing. A run of scope "project" works on one project: give its id.',
        ),
        (
            "project",
            None,
            None,
            MissingProject,
            'project_id: is missing. A run of scope "project" works on one project: give its id.',
        ),
        (
            None,
            7,
            "global",
            UnexpectedProject,
            'project_id: 7 was given, but a run of scope "global" works on every project. Leave it out.',
        ),
        (
            "projct",
            7,
            None,
            UnknownScope,
            'scope: "projct" is not a scope: give project, photo_set or global. Did you mean "project"?',
        ),
        pytest.param(
            10**5000,
            7,
            None,
            UnknownScope,
            "scope: a very large number is not a scope: give project, photo_set or global.",
            id="huge",
        ),
    ],
)
def test_a_scope_that_does_not_fit_is_refused(
    scope: Any,
    project_id: int | None,
    definition_scope: str | None,
    error_class: type[ScopeError],
    message: str,
) -> None:
    with pytest.raises(ScopeError) as raised:
        detect_scope(scope=scope, project_id=project_id, definition_scope=definition_scope)
    assert type(raised.value) is error_class
    assert str(raised.value) == message
