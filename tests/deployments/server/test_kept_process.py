"""A kept child process is started again when it ends, and is ended with its block."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deployments.errors import RunnerFailed
from deployments.server import kept_process as module
from deployments.server.kept_process import KeptProcess
from tests.waiting import wait_until


class Children:
    """Starts processes that run until a signal; a list says which of the next starts succeed."""

    def __init__(self) -> None:
        self.launched: list[subprocess.Popen[bytes]] = []
        self.coming: list[str] = []

    def launch(self) -> subprocess.Popen[bytes]:
        if self.coming[:1] == ["cannot be launched"]:
            raise RunnerFailed(self.coming.pop(0))
        process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        self.launched.append(process)
        return process

    def is_ready(self) -> bool:
        if self.coming:
            raise RunnerFailed(self.coming.pop(0))
        return True

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()

    def running(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self.launched if process.poll() is None]


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    for process in made.launched:
        made.stop(process)


def keep(stack: ExitStack, children: Children) -> None:
    stack.enter_context(
        KeptProcess(
            name="the child",
            launch=children.launch,
            is_ready=children.is_ready,
            failed=RunnerFailed,
            stop=children.stop,
            log_path=Path("child.log"),
        ).running()
    )


def test_one_that_ends_is_started_again_as_often_as_it_ends(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.ERROR, "photojobs"):
        keep(stack, children)
        for number in (1, 2):
            children.launched[-1].send_signal(signal.SIGKILL)
            wait_until(lambda number=number: len(children.launched) > number, what="another is started")
            assert len(children.running()) == 1

    assert children.running() == []
    assert len(children.launched) == 3
    assert caplog.messages == ["the child ended with code -9; it is started again. Its log is child.log"] * 2


def test_one_that_does_not_come_up_is_tried_again_and_leaves_nothing(
    children: Children, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    with ExitStack() as stack, caplog.at_level(logging.ERROR, "photojobs"):
        keep(stack, children)
        children.coming = ["does not answer", "cannot be launched"]
        children.launched[-1].send_signal(signal.SIGKILL)
        wait_until(lambda: len(children.launched) == 3, what="the third is started")
        assert children.running() == children.launched[2:]

    assert children.running() == []
    assert caplog.messages[1:] == [
        "the child could not be started (does not answer); photojobs tries again",
        "the child could not be started (cannot be launched); photojobs tries again",
    ]


def test_one_that_does_not_even_come_up_at_first_is_an_error_and_is_stopped(children: Children) -> None:
    children.coming = ["does not answer"]
    with ExitStack() as stack, pytest.raises(RunnerFailed, match="does not answer"):
        keep(stack, children)

    assert len(children.launched) == 1
    assert children.running() == []


def test_a_long_pause_ends_with_the_block(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 3600)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 3600)
    with ExitStack() as stack:
        keep(stack, children)
        children.launched[-1].send_signal(signal.SIGKILL)
        wait_until(lambda: not children.running(), what="it has ended")

    assert len(children.launched) == 1
