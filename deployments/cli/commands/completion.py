"""`photojobs completion`: what a shell needs to complete the command's words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deployments.cli.command_line import build_app
from deployments.cli.options.errors import BadInput
from deployments.cli.output.terminal import confirm, remark

app = App(name="completion")


@app.default
def completion(
    shell: Literal["bash", "zsh", "fish"],
    /,
    *,
    install: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> None:
    """Print a script with which a shell completes the command.

    Completing starts no program, so it is done at once; make the script anew after an upgrade of photojobs.

    Parameters
    ----------
    shell
        Whose script.
    install
        Write the script where the shell looks for it, in your home folder, and a line into its start file.
    """
    root = build_app()
    if not install:
        print(root.generate_completion(shell=shell), end="")  # noqa: T201 - a program, as it is.
        return
    try:
        written: Path = root.install_completion(shell=shell)
        if shell == "zsh":
            _start_completing_in_zsh(written)
    except OSError as error:
        raise BadInput(f"completion: {error.filename}: cannot be written: {error.strerror}.") from None
    confirm(f"written: {written}")
    remark("New shells complete `photojobs` from now on.")


def _start_completing_in_zsh(script: Path) -> None:
    """Have new shells complete at all, which zsh does not do by itself; frameworks see to it."""
    start_file = Path.home() / ".zshrc"
    text = start_file.read_text(errors="surrogateescape") if start_file.exists() else ""
    if str(script.parent) in text and "compinit" not in text:
        line = "" if text.endswith("\n") else "\n"
        with start_file.open("a") as file:
            file.write(f"{line}autoload -Uz compinit && compinit\n")
