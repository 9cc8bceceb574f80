"""The scope of a run: one project, a set of photos, or everything. Also determines the scope if none is given.

`storage.lifecycle.step_jobs` decides which projects and photos a step of a task with this scope works on.
`flows.starting.new_task` decides which other parameters a start needs or refuses.
"""

from enum import StrEnum

from task_definitions.errors import MissingProject, ScopeMismatch, UnexpectedProject, UnknownScope
from task_definitions.wording import did_you_mean, listed, shown


class Scope(StrEnum):
    """What a run works on.

    `project` needs a `project_id`, `photo_set` may have one, `global` never has one.
    """

    PROJECT = "project"
    PHOTO_SET = "photo_set"
    GLOBAL = "global"


def detect_scope(
    *, scope: Scope | str | None, project_id: int | None, definition_scope: Scope | str | None = None
) -> Scope:
    """Return the scope of a run.

    The result is the definition's scope, else the caller's. If both scopes are given, they must be the same. Without
    either, the scope is `project` if there is a `project_id`, else `photo_set`.

    Raises:
        UnknownScope: a scope is not one of the three.
        ScopeMismatch: the caller's scope is not that of the definition.
        MissingProject: the scope is `project` and there is no `project_id`.
        UnexpectedProject: the scope is `global` and there is a `project_id`.
    """
    declared, given = _parsed(definition_scope), _parsed(scope)
    if declared and given and declared is not given:
        raise ScopeMismatch(
            f'scope: "{given}" was given, but the definition runs with scope "{declared}". '
            f'Leave the scope out, or give "{declared}".'
        )
    effective = declared or given or (Scope.PHOTO_SET if project_id is None else Scope.PROJECT)
    if effective is Scope.PROJECT and project_id is None:
        raise MissingProject('project_id: is missing. A run of scope "project" works on one project: give its id.')
    if effective is Scope.GLOBAL and project_id is not None:
        raise UnexpectedProject(
            f'project_id: {project_id} was given, but a run of scope "global" works on every project. Leave it out.'
        )
    return effective


def _parsed(scope: Scope | str | None) -> Scope | None:
    if scope is None:
        return None
    try:
        return Scope(scope)
    except ValueError:
        similar = did_you_mean(scope, Scope) if isinstance(scope, str) else ""
        raise UnknownScope(f"scope: {shown(scope)} is not a scope: give {listed(Scope)}.{similar}") from None
