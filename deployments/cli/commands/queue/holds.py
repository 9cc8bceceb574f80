"""`photojobs hold` and `photojobs release`: hold the jobs of a task, a tenant or a lane, and let them start again.

`storage.queue.holds` decides which jobs a hold keeps from starting.
"""

from __future__ import annotations

from typing import Literal

from cyclopts import App
from sqlalchemy import Connection

from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Json
from deployments.cli.output.terminal import print_outcome, warn
from flows.api import task_control
from flows.starting.start_targets import MAX_SIMILAR_TENANTS
from storage.photos.projects import ProjectsRepository
from storage.queue.tasks import TasksRepository
from task_definitions.wording import did_you_mean, shown

hold_app = App(name="hold")
release_app = App(name="release")

Kind = Literal["task", "tenant", "lane"]


@hold_app.default
def hold(kind: Kind, name: str, /, *, reason: str | None = None, tenant: str | None = None, json: Json = False) -> None:
    """Keep the jobs of a task, a tenant or a lane from starting.

    Running jobs continue, and queued jobs stay queued.

    Args:
        kind: What to hold: a task, a tenant or a lane.
        name: The task's id, the tenant's id or the lane's name.
        reason: The reason that `photojobs status` shows.
        tenant: Refuse the command unless NAME is a task of this tenant, or this tenant itself. With this option, every
            lane is refused, because a lane belongs to no tenant.
    """
    with opened_database(upgrade=True) as database, database.begin() as connection:
        name = _whole_name(kind, name, tenant, connection)
        projects = ProjectsRepository(connection)
        if kind == "tenant" and not projects.has_tenant(name):
            similar = did_you_mean(name, projects.list_tenants(limit=MAX_SIMILAR_TENANTS))
            warn(f"the tenant {shown(name)} has no project.{similar} The hold applies to all jobs of this tenant.")
        task_control.hold(kind, name, reason=reason, tenant_id=tenant, connection=connection)
    print_outcome(
        f"{kind} {name} is held; `photojobs release {kind} {name}` ends the hold",
        {"kind": kind, "name": name, "is_held": True},
        json=json,
    )


@release_app.default
def release(kind: Kind, name: str, /, *, tenant: str | None = None, json: Json = False) -> None:
    """Let held jobs start again.

    Args:
        kind: What to release: a task, a tenant or a lane.
        name: The task's id, the tenant's id or the lane's name.
        tenant: Refuse the command unless NAME is a task of this tenant, or this tenant itself. With this option, every
            lane is refused, because a lane belongs to no tenant.
    """
    with opened_database(upgrade=True) as database, database.begin() as connection:
        name = _whole_name(kind, name, tenant, connection)
        was_held = task_control.release(kind, name, tenant_id=tenant, connection=connection)
    print_outcome(
        f"{kind} {name} is released" if was_held else f"{kind} {name} was not held",
        {"kind": kind, "name": name, "is_held": False, "was_held": was_held},
        json=json,
    )


def _whole_name(kind: Kind, name: str, tenant: str | None, connection: Connection) -> str:
    return TasksRepository(connection).whole_id(name, tenant_id=tenant) if kind == "task" else name
