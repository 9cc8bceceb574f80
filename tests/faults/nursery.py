"""A process that has imported everything, and forks executors on request, so that a start takes only milliseconds.

A test uses `Nursery`, which starts `python -m tests.faults.nursery` and sends it requests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from flows.handlers.step import load_steps

_READY_SECONDS = 120.0


class Nursery:
    """Starts each executor in a separate process: `worker` runs a worker, `flow` runs the flow of a task.

    Args:
        environment: the environment of the executors: `PHOTOJOBS_…` and, for flows, `PREFECT_API_URL`.
        log: the file for the output of the executors.
        module: the module that is imported before an executor is forked.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, *, module: str = "tests.faults.nursery") -> None:
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | dict(environment),
            cwd=Path(__file__).parents[2],
            text=True,
            start_new_session=True,
        )
        self._children: set[int] = set()

    def start(self, role: str, *arguments: str) -> int:
        """Start an executor and return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join([role, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the nursery died; see {self._log.name}")
        process_id = int(answer)
        self._children.add(process_id)
        return process_id

    def kill(self, process_id: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to an executor; do nothing if it has ended already."""
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            self._children.discard(process_id)

    def is_alive(self, process_id: int) -> bool:
        """Return True if the executor runs."""
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            self._children.discard(process_id)
            return False
        return True

    def wait_for_end(self, process_id: int, limit_seconds: float) -> bool:
        """Wait until the executor has ended; return False if it still runs after this time."""
        give_up_at = time.monotonic() + limit_seconds
        while self.is_alive(process_id):
            if time.monotonic() > give_up_at:
                return False
            threading.Event().wait(0.01)
        return True

    def close(self) -> None:
        """Kill every executor, and end the process that forks them."""
        for process_id in list(self._children):
            self.kill(process_id)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()


def _run_worker() -> None:
    from flows.execution.worker import Worker
    from flows.process.runtime import Runtime

    with Runtime.open() as runtime:
        worker = Worker(runtime)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()


def _run_flow(task_id: str) -> None:
    from flows.orchestration.compiler import compile_task
    from tests.faults.fault_steps import survivor

    compile_task(survivor())(task_id=task_id, return_state=True)


def main() -> None:
    """Fork an executor for each line of the standard input: `worker`, or `flow TASK_ID`."""
    for module in ("tests.faults.fault_steps", "storage.upkeep.schema_upgrade", "flows.execution.worker"):
        import_module(module)
    if "PREFECT_API_URL" in os.environ:
        import_module("flows.orchestration.compiler")
    load_steps()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        role, *arguments = line.split()
        process_id = os.fork()
        if process_id:
            sys.stdout.write(f"{process_id}\n")
            sys.stdout.flush()
        else:
            _be(role, arguments)
    # The test has ended, so its executors end too.
    os.killpg(0, signal.SIGKILL)


def _be(role: str, arguments: list[str]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    code = 1
    try:
        {"worker": _run_worker, "flow": _run_flow}[role](*arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - after any error, the fork must not continue with the loop of its parent.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
