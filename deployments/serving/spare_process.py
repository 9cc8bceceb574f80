"""Keeps a spare process that has already imported Prefect and the handlers, so that the next flow run begins at once.

The imports take two seconds. When a flow run starts, the runner sends the spare process the environment that Prefect
made for a new process. Then the runner prepares the next spare process. A spare process reads no definitions or
settings before it gets this environment. `main` is the program of a spare process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import anyio
import anyio.abc

from deployments.errors import RunnerFailed
from deployments.import_outside_gc import imported_outside_gc, launched
from deployments.server.prefect_server import die_with_parent, outlive_parent
from deployments.serving.start_checks import checked_start
from flows.handlers.step import load_steps

logger = logging.getLogger("photojobs.serving")

#: How long the runner waits before it prepares the next spare process, so that the flow run begins first.
PREPARE_AFTER_SECONDS = 3.0

_ENGINE = "prefect.engine"


class SpareProcess:
    """Starts flow runs in the spare process; in a new process if there is no spare one or its settings differ.

    `start_new` is Prefect's own function that starts a process, `prefect.utilities.processutils.run_process`.
    """

    def __init__(self, start_new: Callable[..., Awaitable[Any]]) -> None:
        self._start_new = start_new
        self._prepared: anyio.abc.Process | None = None
        self._settings: Mapping[str, str] = {}
        self._preparing: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Start the next spare process."""
        from prefect.settings import get_current_settings

        environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True)
        self._settings = _prefect_settings(environment)
        self._prepared = await anyio.open_process(
            launched(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    async def run_process(
        self,
        command: list[str],
        *,
        env: Mapping[str, str],
        task_status: Any,
        task_status_handler: Callable[[Any], Any],
        cwd: Any = None,
        **options: Any,
    ) -> anyio.abc.Process:
        """Do the same as Prefect's `run_process`: start the command, report the process, and wait for its end."""
        process = self._take() if command[1:] == ["-m", _ENGINE] and self._fits(env, cwd) else None
        if process is None or process.stdin is None:
            started: anyio.abc.Process = await self._start_new(
                command, env=env, cwd=cwd, task_status=task_status, task_status_handler=task_status_handler, **options
            )
            return started
        from prefect.utilities.processutils import consume_process_output

        try:
            await process.stdin.send(json.dumps(dict(env)).encode() + b"\n")
            task_status.started(task_status_handler(process))
            await consume_process_output(process, stdout_sink=sys.stdout, stderr_sink=sys.stderr)
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
            with anyio.CancelScope(shield=True):
                await process.aclose()
        return process

    def _fits(self, environment: Mapping[str, str], folder: Any) -> bool:
        # Prefect reads its settings at import, so the spare process cannot take other settings.
        return folder is None and _prefect_settings(environment) == self._settings

    def _take(self) -> anyio.abc.Process | None:
        process, self._prepared = self._prepared, None
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare_later())
        return None if process is None or process.returncode is not None else process

    async def _prepare_later(self) -> None:
        await asyncio.sleep(PREPARE_AFTER_SECONDS)
        try:
            await self.prepare()
        except OSError as error:
            logger.warning("no process could be prepared, so the next flow run starts more slowly: %s", error)


async def use_spare_process() -> None:
    """Make the runners of this process start flow runs in spare processes.

    Raises:
        RunnerFailed: the installed Prefect starts processes by another function.
    """
    try:
        starter = import_module("prefect.runner._starter_engine")
        spare = SpareProcess(starter.run_process)
    except (ImportError, AttributeError):
        # Prefect has no public way to replace the function that starts processes.
        raise RunnerFailed(
            f"Prefect {version('prefect')}, which is installed, starts flow runs in another way, so photojobs cannot "
            "check what they run. Install the version that constraints.txt names."
        ) from None
    await spare.prepare()
    vars(starter)["run_process"] = checked_start(spare.run_process)


def _prefect_settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    # Variables that begin with PREFECT__ describe a flow run; they are not settings.
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("PREFECT_") and not name.startswith("PREFECT__")
    }


def main() -> None:
    """Import the modules, wait for the environment of a flow run, and run Prefect's engine for it."""
    if sys.platform == "linux":
        die_with_parent()
    with imported_outside_gc():
        engine = import_module(_ENGINE)
        import_module("prefect.flow_engine")
        import_module("flows.catalog")
        load_steps()
    line = sys.stdin.readline()
    if not line:
        # The runner has ended, or does not need this process.
        return
    if sys.platform == "linux":
        # A flow run must outlive its parent, to return its jobs to the queue.
        outlive_parent()
    os.environ.clear()
    os.environ.update(json.loads(line))
    sys.argv = [str(engine.__file__)]
    runpy.run_path(sys.argv[0], run_name="__main__")
