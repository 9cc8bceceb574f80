"""bash and zsh complete commands and options with the script of `photojobs completion`."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def _needs(shell: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if the shell is missing; in CI, which installs the shell, the test fails."""
    is_skipped = shutil.which(shell) is None and not os.environ.get("CI")
    return pytest.mark.skipif(is_skipped, reason=f"{shell} is not installed, and this test completes with it")


@_needs("bash")
def test_bash_completes_commands_options_and_choices_without_starting_the_command(
    command: Command, tmp_path: Path
) -> None:
    script = tmp_path / "photojobs.bash"
    script.write_text(command("completion", "bash").out)

    def completed(*words: str) -> set[str]:
        program = f"""
            source {script}
            photojobs() {{ echo started >&2; exit 1; }}
            COMP_WORDS=(photojobs {" ".join(repr(word) for word in words)}); COMP_CWORD={len(words)}
            _photojobs; printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    assert completed("st") == {"start", "status", "steps"}
    assert completed("jobs", "") >= {"list", "show", "why", "retry"}
    assert completed("run", "--it") == {"--item", "--items-file"}
    assert completed("jobs", "list", "--status", "f") == {"failed"}
    assert "--quiet" in completed("--")


@_needs("zsh")
def test_a_new_zsh_completes_after_the_script_was_installed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZSH_CUSTOM", raising=False)
    (tmp_path / ".zshrc").write_text("PROMPT='ready> '")
    for _ in range(2):
        assert command("completion", "zsh", "--install").code == 0

    assert (tmp_path / ".zshrc").read_text().count("compinit && compinit") == 1
    terminal, end = pty.openpty()
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "TERM": "dumb"}
    shell = subprocess.Popen(
        ["zsh", "-i"], stdin=end, stdout=end, stderr=end, env=environment, cwd=tmp_path, start_new_session=True
    )
    try:
        _read_until(terminal, "ready> ")
        os.write(terminal, b"photojobs definitions li\t")
        shown = _read_until(terminal, "lint")
        assert "list" in shown
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
        os.close(end)


def _read_until(terminal: int, wanted: str) -> str:
    """Return the output of the terminal up to the wanted text."""
    shown, give_up_at = "", time.monotonic() + 60
    while wanted not in shown:
        readable, _, _ = select.select([terminal], [], [], max(0.0, give_up_at - time.monotonic()))
        assert readable, f"{wanted!r} was not shown, but {shown!r}"
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_the_script_is_installed_into_the_home_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    ran = command("completion", "fish", "--install")

    assert ran.code == 0
    written = Path(ran.out.strip().removeprefix("written: "))
    assert tmp_path in written.parents
    assert "complete" in written.read_text()
