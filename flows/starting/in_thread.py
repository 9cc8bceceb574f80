"""Makes a blocking function awaitable, by running it in a thread so that it does not block the event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_thread(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, Coroutine[Any, Any, _Result]]:
    """Return a coroutine function with the arguments, result and errors of `call`, which it runs in a thread.

    The thread has the context variables of the caller, among them Prefect's current flow run. If the coroutine is
    canceled, it stops waiting, but `call` runs to its end.
    """

    @wraps(call)
    async def awaitable(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return await asyncio.to_thread(call, *args, **kwargs)

    return awaitable
