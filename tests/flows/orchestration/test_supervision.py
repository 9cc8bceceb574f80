"""`photojobs up` ends only processes that are proven to be its own flow-run processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from flows.orchestration.supervision import FOLDER_VARIABLE, running_processes


def test_a_mark_of_a_crashed_run_names_no_other_process(tmp_path: Path) -> None:
    # Another process has this process id now: the process of this test.
    (tmp_path / f"{os.getpid()}.run").touch()

    # macOS writes such a file beside each file of a disk that cannot store its attributes.
    (tmp_path / f"._{os.getpid()}.run").touch()

    assert running_processes(tmp_path) == []
    assert [file.name for file in tmp_path.glob("[0-9]*")] == []


def test_a_flow_run_process_is_known_until_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from flows.orchestration.supervision import register; "
        "register(Path(sys.argv[1]), os.getpid()); print('here', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert running_processes(tmp_path) == [process.pid]
        process.kill()
        process.wait()
        assert running_processes(tmp_path) == []


def test_a_process_that_was_told_to_end_does_so_even_if_a_thread_of_it_never_does() -> None:
    program = (
        "import threading; from flows.orchestration.supervision import end_within; "
        "threading.Thread(target=threading.Event().wait).start(); end_within(0.1)"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_runner_whose_parent_is_killed_ends_even_if_something_of_it_waits_for_ever(tmp_path: Path) -> None:
    runner = (
        "import signal, threading; from flows.orchestration import supervision; supervision.ORPHAN_SECONDS = 0.1; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); supervision.stop_runs_when_orphaned(end_within_seconds=0); "
        "print('here', flush=True); threading.Event().wait()"
    )
    parent = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
    environment = os.environ | {FOLDER_VARIABLE: str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", parent, runner], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()
        # The runner has the other end of the pipe, which is closed when the runner ends.
        assert process.stdout.read() == b""
    assert (tmp_path / "stop").exists()
