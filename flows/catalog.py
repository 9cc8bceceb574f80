"""Offers every built-in and user definition as an importable flow: `from flows.catalog import maintenance_global`.

Prefect loads a served or deployed flow by the name of this module and the name of the flow.
"""

from functools import cache
from typing import Any

from prefect import Flow

from flows.orchestration.compiler import compile_task
from flows.orchestration.drain_flow import drain_queue_flow
from flows.starting.known_definitions import known_definitions
from storage.settings import Settings
from task_definitions import Definitions
from task_definitions.errors import UnknownDefinition


@cache
def definitions() -> Definitions:
    """Return the built-in definitions and the valid definitions of the files that the setting `definitions` names."""
    return known_definitions(Settings.load())


@cache
def flow_named(name: str) -> Flow[..., Any]:
    """Return the compiled flow of a definition.

    Raises:
        UnknownDefinition: there is no definition of that name.
    """
    return compile_task(definitions().get_or_raise(name))


#: The flow that runs standalone jobs, which belong to no task.
drain_queue = drain_queue_flow


def __getattr__(name: str) -> Flow[..., Any]:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return flow_named(name)
    except UnknownDefinition as error:
        raise AttributeError(str(error)) from None


def __dir__() -> list[str]:
    return [*globals(), *definitions()]
