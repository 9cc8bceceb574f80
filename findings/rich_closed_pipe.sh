#!/usr/bin/env bash
# Rich ends the program if the reader of its output has gone: `print` of a console raises SystemExit, and no BrokenPipeError.
#
# Guess: `tool list | head -1` raises BrokenPipeError where it prints, as Python's own `print` does. A program that catches it, or
#     each Exception, ends in order and with an exit code of its own choice.
# Behaviour: Console.print catches BrokenPipeError itself, turns the program's stdout to /dev/null, and raises SystemExit(1). No
#     `except Exception` sees it. The exit code is 1, as for an error. In a thread, SystemExit is silent: the thread ends, and
#     the program goes on, and exits with 0. A subclass whose `on_broken_pipe` raises the error has it back.
# Versions: rich 15.0.0.
# Date: 2026-11-29.
# Source: rich/console.py, Console._check_buffer and on_broken_pipe.
# Covered by: deployments/cli/output/terminal.py, `_Console`; deployments/cli/command_line.py, whose exit code for a closed pipe is
#     141, as a shell reports it; tests/deployments/cli/test_command_bad_input.py.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q rich==15.0.0
"$work/venv/bin/python" - <<'PYTHON'
import subprocess
import sys

BEGIN = """
import sys
import threading

from rich.console import Console


class Raising(Console):
    def on_broken_pipe(self):
        raise


def show(write):
    try:
        for _ in range(1000):
            write("a line " * 100)
    except Exception as error:
        print("Exception:", type(error).__name__, file=sys.stderr)
        sys.exit(3)
    except SystemExit as error:
        print("SystemExit:", error.code, file=sys.stderr)
        raise


sys.stdin.read()
"""


def seen(call):
    """What the program reports, and its exit code, if nothing reads its output."""
    run = [sys.executable, "-c", BEGIN + call]
    process = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    process.stdin.close()
    report = process.stderr.read().splitlines()[:1]
    return report, process.wait()


calls = {
    "print of Python": "show(lambda text: print(text, flush=True))",
    "print of a console": "show(Console().print)",
    "print of a console in a thread": "threading.Thread(target=show, args=[Console().print]).start()",
    "print of a console that raises": "show(Raising().print)",
}
results = {name: seen(call) for name, call in calls.items()}
for name, (report, code) in results.items():
    print(f"{name}: {report}, exit code {code}")
assert results["print of Python"][0] == ["Exception: BrokenPipeError"]
assert results["print of a console"] == (["SystemExit: 1"], 1)
assert results["print of a console in a thread"] == (["SystemExit: 1"], 0)
assert results["print of a console that raises"][0] == ["Exception: BrokenPipeError"]
PYTHON
