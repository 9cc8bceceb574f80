"""How definitions run: compiled into Prefect flows, or by workers without Prefect; and the handlers of every step type.

The names below are loaded when they are first used: what does not need Prefect does not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazily: the import of the module of the same name would set the name to the module.
from flows.step import step

if TYPE_CHECKING:
    from flows.compiler import compile_task
    from flows.runtime import Runtime
    from flows.start import StartedTask, run_task, start_task
    from flows.step_context import StepContext
    from flows.worker import drain_queue

__all__ = [
    "Runtime",
    "StartedTask",
    "StepContext",
    "compile_task",
    "drain_queue",
    "run_task",
    "start_task",
    "step",
]

_HOMES = {
    "Runtime": "flows.runtime",
    "StartedTask": "flows.start",
    "StepContext": "flows.step_context",
    "compile_task": "flows.compiler",
    "drain_queue": "flows.worker",
    "run_task": "flows.start",
    "start_task": "flows.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
