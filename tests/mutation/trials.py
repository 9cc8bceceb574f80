"""Runs the tests that execute a changed line, in a process that has already imported the libraries.

Each trial runs in a fork, so the large libraries are imported once. One PostgreSQL server serves all trials.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from coverage import CoverageData

from tests.mutation.mutants import Mutant

_LIBRARIES = (
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "pydantic_settings",
    "yaml",
    "trio",
    "hypothesis.stateful",
    "_hypothesis_pytestplugin",
    "anyio.pytest_plugin",
    "pytest_cov.plugin",
    "pytest_timeout",
    "xdist.plugin",
    "_pytest.junitxml",
    "_pytest.doctest",
    "PIL.Image",
)
#: A change may cause an endless loop. It counts as noticed if a trial takes this much longer than its tests took.
_TIMES_LONGER = 4.0
_SECONDS_MORE = 30.0
#: With `--dist` of pyproject.toml and `-n0`, pytest-cov would not note which test runs a line.
_OPTIONS = ("-q", "-n0", "--dist=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass
class Trials:
    """The tests of a copy of the project: how long each takes, and which lines it runs."""

    project: Path
    tests: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)
    #: For each file and line, the tests that run it.
    tests_of: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    #: How many mutants each test has noticed first.
    _noticed: Counter[str] = field(default_factory=Counter)
    _moments: itertools.count[int] = field(default_factory=lambda: itertools.count(1_000_000_000))

    def measure(self, modules: Sequence[str]) -> None:
        """Run all tests once without a change; record how long each takes and which lines it runs."""
        for name in _LIBRARIES:
            importlib.import_module(name)
        with tempfile.TemporaryDirectory(prefix="pj-") as folder:
            durations, lines = Path(folder, "durations.json"), Path(folder, "coverage")
            os.environ["COVERAGE_FILE"] = str(lines)
            packages = sorted({f"--cov={module.partition('/')[0]}" for module in modules})
            code = self._in_fork(
                lambda: pytest.main(
                    [*_OPTIONS, *packages, "--cov-context=test", "--cov-report=", *self.tests],
                    plugins=[_Durations(durations)],
                ),
                seconds=3600,
            )
            if code != 0:
                sys.exit("The tests fail without any change. Fix them first.")
            self.seconds = json.loads(durations.read_text())
            data = CoverageData(str(lines))
            data.read()
            for module in modules:
                contexts = data.contexts_by_lineno(str(self.project / module))
                self.tests_of[module] = {
                    line: {each.partition("|")[0] for each in names} for line, names in contexts.items()
                }
            if not data.measured_contexts() - {""}:
                sys.exit("pytest-cov did not record which test runs which line. Check the versions in constraints.txt.")

    def is_noticed(self, mutant: Mutant) -> bool:
        """Return True if a test fails with this mutant."""
        chosen = self._tests_for(mutant)
        if not chosen:
            return False
        path = self.project / mutant.module
        original = path.read_text()
        self._write(path, mutant.source)
        try:
            seconds = sum(self.seconds[name] for name in chosen) * _TIMES_LONGER + _SECONDS_MORE
            failed = _Failed(self.project / "failed")
            longest = max(self.seconds[name] for name in chosen) * _TIMES_LONGER + _SECONDS_MORE
            arguments = [*_OPTIONS, "-x", f"--timeout={longest:.0f}", *chosen]
            is_noticed = self._in_fork(lambda: pytest.main(arguments, plugins=[failed]), seconds=seconds) != 0
            self._noticed.update(failed.names())
            return is_noticed
        finally:
            self._write(path, original)

    def _tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed lines, sorted by how many mutants they have noticed, then by time."""
        lines = self.tests_of[mutant.module]
        chosen = set().union(*(lines.get(line, ()) for line in mutant.lines)) if mutant.lines else {""}
        # Lines that ran outside a test, for example at an import, may affect all tests.
        names = set(self.seconds) if "" in chosen else chosen & set(self.seconds)
        return sorted(names, key=lambda name: (-self._noticed[name], self.seconds[name]))

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source)
        # Python must not take the bytecode of another mutant of the same size for that of this mutant.
        moment = next(self._moments)
        os.utime(path, (moment, moment))

    def _in_fork(self, run: Callable[[], int], *, seconds: float) -> int:
        """Run a function in a fork with a separate temporary folder; return 1 if the fork takes too long."""
        with tempfile.TemporaryDirectory(prefix="pj-", ignore_cleanup_errors=True) as folder:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.setpgid(0, 0)
                    _redirect_output(self.project / "output")
                    os.environ["TMPDIR"] = tempfile.tempdir = folder
                    os.chdir(self.project)
                    sys.path.insert(0, str(self.project))
                    for name in [each for each in sys.modules if each.partition(".")[0] == "tests"]:
                        del sys.modules[name]
                    code = int(run())
                except BaseException:  # noqa: BLE001 - after any error, the fork must not continue with the code of its parent.
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            return _code_of(pid, seconds=seconds)


def _redirect_output(path: Path) -> None:
    with path.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def _code_of(pid: int, *, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    pause = 0.005
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 1
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


class _Durations:
    """A pytest plug-in that writes how long each test took."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: Mapping[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: Any) -> None:
        # A test includes the time of preparing and emptying its database.
        self._seconds[report.nodeid] += report.duration  # type: ignore[index]

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._seconds))


class _Failed:
    """A pytest plug-in that writes which test failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._path.write_text(report.nodeid)

    def names(self) -> list[str]:
        return [self._path.read_text()] if self._path.exists() else []
