"""Which processes `photojobs up` may end: those that prove to be its own flow-run processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flows.supervision import running_processes


def test_a_mark_of_a_crashed_run_names_no_other_process(tmp_path: Path) -> None:
    # Its process id is that of something else by now: of this very process.
    (tmp_path / f"{os.getpid()}.run").touch()

    assert running_processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_flow_run_process_is_known_until_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from flows.supervision import register; "
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
