"""Starts executors in separate processes, for tests that send them signals; files control their step types.

A test uses `Executor`, which starts `python -m tests.flows.execution.executor_process ROLE …`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from task_definitions import TaskDefinition, load_definitions

#: A test fails if it waits longer than this for a process.
LIMIT_SECONDS = 120.0

DEFINITIONS = {
    "lingering": {
        "label": "Lingering",
        "scope": "global",
        "steps": [{"type": "linger", "priority": 95}, {"type": "leave_mark", "priority": 50}],
    },
    "stubborn": {"label": "Stubborn", "scope": "global", "steps": [{"type": "ignore_all", "priority": 95}]},
    "ticking": {"label": "Ticking", "scope": "global", "steps": [{"type": "tick", "priority": 95}]},
    "urgent": {
        "label": "Urgent",
        "scope": "photo_set",
        "steps": [{"type": "mark_items", "priority": 100, "chunk_size": 1}],
    },
    "patient": {
        "label": "Patient",
        "scope": "photo_set",
        "steps": [{"type": "mark_items", "priority": 90, "chunk_size": 1}],
    },
}


def definition(name: str) -> TaskDefinition:
    """Return the definition of this module with this name."""
    return load_definitions(DEFINITIONS, builtin=False)[name]


@step("linger", unit="library", modifies_files=False)
def linger(ctx: StepContext) -> None:
    """Runs until the file `gate` exists, or until the job must stop."""
    folder = ctx.library.root
    (folder / "entered").write_text(str(os.getpid()))
    while not (folder / "gate").exists():
        ctx.checkpoint()
        time.sleep(0.01)


@step("ignore_all", unit="library", modifies_files=False)
def ignore_all(ctx: StepContext) -> None:
    """Runs until the file `gate` exists, without a checkpoint."""
    (ctx.library.root / "entered").touch()
    while not (ctx.library.root / "gate").exists():
        time.sleep(0.01)


@step("tick", unit="library", modifies_files=False)
def tick(ctx: StepContext) -> None:
    """Appends its process id and token to a file again and again, until the file `gate` exists."""
    folder = ctx.library.root
    while not (folder / "gate").exists():
        time.sleep(0.005)
        ctx.checkpoint()
        append_line(folder / "ticks", f"{os.getpid()} {ctx.claim.token}")


@step("leave_mark", unit="library", modifies_files=False)
def leave_mark(ctx: StepContext) -> None:
    """Creates the file `marked`."""
    append_line(ctx.library.root / "marked", str(os.getpid()))


@step("mark_items", unit="items", modifies_files=False)
def mark_items(ctx: StepContext) -> None:
    """Appends the priority of its job to the file `order`."""
    append_line(ctx.library.root / "order", f"{ctx.job.priority} {os.getpid()}")
    if not (ctx.library.root / "gate").exists():
        linger(ctx)
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                pass


def append_line(path: Path, line: str) -> None:
    """Append a line in one system call."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


class Executor:
    """A process that runs jobs. As a context manager, it kills the process and its children at the end.

    Args:
        role: `run NAME` runs a definition, `follow NAME TASK_ID` the flow of a task, `serve NAME` its deployment,
            `worker` is the command's worker, `command …` any command of `photojobs`, which knows the definitions.
        environment: variables that are added to the environment of this process.
    """

    def __init__(self, role: str, environment: dict[str, str]) -> None:
        self._log = Path(environment["PHOTOJOBS_LIBRARY_ROOT"]).parent / f"{role.replace(' ', '-')}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.flows.execution.executor_process", *role.split()],
                env=os.environ | environment,
                cwd=Path(__file__).parents[3],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def wait(self, limit_seconds: float = LIMIT_SECONDS) -> int:
        """Wait until the process has ended, and return its exit code."""
        try:
            return self.process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit_seconds:g} s:\n{self.output()}") from None

    def output(self) -> str:
        """Return the output of the process."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


def _run(name: str) -> None:
    from flows import run_task

    summary = run_task(type=definition(name), tenant_id="user_0")
    sys.exit({"completed": 0, "failed": 1, "canceled": 130}[summary.task.status])


def _follow(name: str, task_id: str) -> None:
    from flows.orchestration.compiler import compile_task

    compile_task(definition(name))(task_id=task_id, tenant_id="t", return_state=True)


def _command(*arguments: str) -> None:
    from deployments.cli import main

    sys.argv = ["photojobs", *arguments]
    main()


def _serve(name: str) -> None:
    import asyncio

    from prefect.runner import Runner

    from deployments.deploying.runner_deployments import deployment_of
    from storage import Settings

    async def serve() -> None:
        settings = Settings.load()
        runner = Runner(name="tests", query_seconds=0.5, pause_on_shutdown=False)
        await runner.aadd_deployment(await asyncio.to_thread(deployment_of, definition(name), settings))
        (settings.library_root / "served").touch()
        await runner.start()

    asyncio.run(serve())


if __name__ == "__main__":
    # A process that a shell starts in the background ignores Ctrl-C, and its children inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    {"run": _run, "follow": _follow, "serve": _serve, "worker": partial(_command, "worker"), "command": _command}[
        sys.argv[1]
    ](*sys.argv[2:])
