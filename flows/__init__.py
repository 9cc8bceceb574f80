"""How definitions run: compiled into Prefect flows, or by workers without Prefect; and the handlers of every step type.

The names below are loaded when they are first used: what does not need Prefect does not import it. Those with an `a`
before them are for coroutines: `await astart_task(...)` is `start_task(...)` in a thread of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazily: the import of the module of the same name would set the name to the module.
from flows.step import step

if TYPE_CHECKING:
    from flows.compiler import compile_task
    from flows.errors import PermanentStepError, SkipItem
    from flows.planning.plan import Plan, aplan_task, plan_task
    from flows.planning.planned_run import arun_saved_plan, run_saved_plan
    from flows.runtime import Runtime
    from flows.start import StartedTask, arun_task, astart_task, run_task, start_task
    from flows.step_context import StepContext
    from flows.task_control import (
        acancel_task,
        ahold,
        arelease,
        aretry_task,
        atask_status,
        cancel_task,
        hold,
        release,
        retry_task,
        task_status,
    )
    from flows.undo import aplan_undo, aundo_task, plan_undo, undo_task
    from flows.worker import drain_queue

__all__ = [
    "PermanentStepError",
    "Plan",
    "Runtime",
    "SkipItem",
    "StartedTask",
    "StepContext",
    "acancel_task",
    "ahold",
    "aplan_task",
    "aplan_undo",
    "arelease",
    "aretry_task",
    "arun_saved_plan",
    "arun_task",
    "astart_task",
    "atask_status",
    "aundo_task",
    "cancel_task",
    "compile_task",
    "drain_queue",
    "hold",
    "plan_task",
    "plan_undo",
    "release",
    "retry_task",
    "run_saved_plan",
    "run_task",
    "start_task",
    "step",
    "task_status",
    "undo_task",
]

_HOMES = {
    "PermanentStepError": "flows.errors",
    "SkipItem": "flows.errors",
    "Plan": "flows.planning.plan",
    "aplan_task": "flows.planning.plan",
    "arun_saved_plan": "flows.planning.planned_run",
    "plan_task": "flows.planning.plan",
    "run_saved_plan": "flows.planning.planned_run",
    "Runtime": "flows.runtime",
    "StartedTask": "flows.start",
    "StepContext": "flows.step_context",
    "acancel_task": "flows.task_control",
    "ahold": "flows.task_control",
    "arelease": "flows.task_control",
    "aretry_task": "flows.task_control",
    "arun_task": "flows.start",
    "astart_task": "flows.start",
    "atask_status": "flows.task_control",
    "cancel_task": "flows.task_control",
    "compile_task": "flows.compiler",
    "drain_queue": "flows.worker",
    "hold": "flows.task_control",
    "release": "flows.task_control",
    "retry_task": "flows.task_control",
    "run_task": "flows.start",
    "aplan_undo": "flows.undo",
    "aundo_task": "flows.undo",
    "plan_undo": "flows.undo",
    "undo_task": "flows.undo",
    "start_task": "flows.start",
    "task_status": "flows.task_control",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
