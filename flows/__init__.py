"""Runs the tasks of definitions, with or without Prefect, and has the handlers of all built-in step types.

Each public name is imported when it is first used, so a program that does not need Prefect does not import Prefect.
The forms for coroutines have the prefix `a`: `await astart_task(...)` calls `start_task(...)` in a separate thread.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.api.saved_plan_run import arun_saved_plan, run_saved_plan
    from flows.api.start import StartedTask, arun_task, astart_task, run_task, start_task
    from flows.api.task_control import (
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
    from flows.api.undo import aplan_undo, aundo_task, plan_undo, undo_task
    from flows.errors import PermanentStepError, SkipItem
    from flows.execution.worker import drain_queue
    from flows.handlers.step import step
    from flows.handlers.step_context import StepContext
    from flows.orchestration.compiler import compile_task
    from flows.planning.plan import Plan, aplan_task, plan_task
    from flows.process.runtime import Runtime

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

#: The public names by module, separated by spaces. `__getattr__` imports a module when one of its names is first used.
_MODULES = {
    "flows.api.saved_plan_run": "arun_saved_plan run_saved_plan",
    "flows.api.start": "StartedTask arun_task astart_task run_task start_task",
    "flows.api.task_control": "acancel_task ahold arelease aretry_task atask_status "
    "cancel_task hold release retry_task task_status",
    "flows.api.undo": "aplan_undo aundo_task plan_undo undo_task",
    "flows.errors": "PermanentStepError SkipItem",
    "flows.execution.worker": "drain_queue",
    "flows.handlers.step": "step",
    "flows.handlers.step_context": "StepContext",
    "flows.orchestration.compiler": "compile_task",
    "flows.planning.plan": "Plan aplan_task plan_task",
    "flows.process.runtime": "Runtime",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
