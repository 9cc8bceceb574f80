"""A blocking call for coroutines: in a thread of its own, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_thread(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, Coroutine[Any, Any, _Result]]:
    """`call` for `await`, with the same arguments, result and errors.

    The thread sees the context variables of the caller, among them Prefect's current flow run. A coroutine that is
    canceled stops waiting; the call itself goes on to its end.
    """

    @wraps(call)
    async def awaitable(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return await asyncio.to_thread(call, *args, **kwargs)

    return awaitable
