"""Offers every valid definition, built-in or of the user, as a flow: `from flows.catalog import maintenance_global`.

Prefect loads a served or deployed flow by the name of this module and the name of the flow.
"""

# A name of this module hides the definition of the same name. Names of definitions begin with a small letter, so
# functions are imported under names with `_`.
from functools import cache as _cache
from typing import Any

from prefect import Flow

from flows.orchestration.compiler import compile_task as _compile_task
from flows.orchestration.drain_flow import drain_queue_flow as _drain_queue_flow
from storage.settings import Settings
from task_definitions import Definitions
from task_definitions import load_definitions as _load_definitions
from task_definitions.errors import UnknownDefinition

#: The flow that runs standalone jobs, which belong to no task.
drain_queue = _drain_queue_flow


@_cache
def _definitions() -> Definitions:
    return _load_definitions(Settings.load().definitions, strict=False)


@_cache
def __getattr__(name: str) -> Flow[..., Any]:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return _compile_task(_definitions().get_or_raise(name))
    except UnknownDefinition as error:
        raise AttributeError(str(error)) from None


def __dir__() -> list[str]:
    return [*globals(), *_definitions()]
