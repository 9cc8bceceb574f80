"""Handlers are loaded at the first use, also if many threads use them at the same time."""

from __future__ import annotations

import subprocess
import sys

_MANY_AT_ONCE = """
import threading
from concurrent.futures import ThreadPoolExecutor

from flows.handlers.step import handler_of

together = threading.Barrier(8)

def ask(_):
    together.wait()
    return handler_of("project_delete_files").__name__

with ThreadPoolExecutor(8) as threads:
    print(set(threads.map(ask, range(8))))
"""


def test_a_thread_that_comes_while_handlers_are_loaded_waits_for_them() -> None:
    ran = subprocess.run([sys.executable, "-c", _MANY_AT_ONCE], capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "{'project_delete_files'}\n"
