"""What a real bash completes with the script of `photojobs completion`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
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


def test_the_script_is_installed_into_the_home_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    ran = command("completion", "fish", "--install")

    assert ran.code == 0
    written = Path(ran.out.strip().removeprefix("written: "))
    assert tmp_path in written.parents
    assert "complete" in written.read_text()
