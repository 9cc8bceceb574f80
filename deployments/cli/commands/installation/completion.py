"""`photojobs completion`: print or install a completion script for a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from deployments.cli.command_line import build_app
from deployments.cli.options.errors import BadInput
from deployments.cli.options.parameters import Flag
from deployments.cli.output.terminal import confirm, remark

app = App(name="completion")


@app.default
def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
    """Print a script for your shell that completes `photojobs` commands.

    Completion is fast because it starts no program. Print the script again after an upgrade of photojobs.

    Args:
        shell: The shell.
        install: Write the script to the place in your home folder where the shell looks for it. For bash and zsh, also
            add lines to the shell's start file.
    """
    root = build_app()
    if not install:
        print(root.generate_completion(shell=shell), end="")  # noqa: T201 - the script must not be wrapped.
        return
    try:
        written: Path = root.install_completion(shell=shell)
        if shell == "zsh":
            _start_completing_in_zsh(written)
    except OSError as error:
        raise BadInput(
            f"completion: {error.filename} cannot be read or written: {error.strerror}. Correct this, or leave out "
            "--install to print the script."
        ) from None
    confirm(f"written: {written}")
    remark("Completion of `photojobs` works in every shell that you start from now on.")


def _start_completing_in_zsh(script: Path) -> None:
    """Turn completion on in the start file of zsh, unless it is on; by default, zsh reads no completion scripts."""
    start_file = Path.home() / ".zshrc"
    text = start_file.read_text(errors="surrogateescape") if start_file.exists() else ""
    if str(script.parent) in text and "compinit" not in text:
        line = "" if text.endswith("\n") else "\n"
        with start_file.open("a") as file:
            file.write(f"{line}autoload -Uz compinit && compinit\n")
