#!/usr/bin/env bash
# A cyclopts option takes `null` for "not given": `cancel --status null` cancels everything, and `--ids null` chooses all.
#
# Guess: what is no number, no date and none of the choices is an error, as with click, typer and argparse. In a script, `--since "$since"`
#     fails if jq has found no value and printed `null`.
# Behaviour: if a parameter may be None, the words `none` and `null`, in any case, are converted to it, so that the function cannot tell
#     that the option was given. It is so for numbers, dates, choices, flags (`--dry=null`) and lists of one word, though not
#     for a second word of a list. Of `str | None` and `Path | None`, the text is tried first, and wins: a tag of the name "none" can
#     be given, so that a test with texts shows nothing. A filter that is lost makes a command act on more.
# Versions: cyclopts 5.5.2; typer 0.29.2 to compare.
# Date: 2026-11-29.
# Source: cyclopts/_convert.py, _none, "Convert 'none' or 'null' strings (case-insensitive) to None", which a Union tries for its NoneType.
# Covered by: deployments/cli/options/empty_values.py; tests/deployments/cli/test_command_bad_input.py, "the word null is a text or refused
#     and never counts as not given".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cyclopts==5.5.2 typer==0.29.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import date
from pathlib import Path
from typing import Literal

import cyclopts
import typer
from typer.testing import CliRunner

app = cyclopts.App(result_action="return_value")


@app.command
def cancel(
    *,
    status: Literal["queued", "failed"] | None = None,
    since: date | None = None,
    count: int | None = None,
    ids: list[int] | None = None,
    dry: bool | None = None,
    tag: str | None = None,
    file: Path | None = None,
):
    given = {"status": status, "since": since, "count": count, "ids": ids, "dry": dry, "tag": tag, "file": file}
    return {name: value for name, value in given.items() if value is not None}


def run(*words):
    try:
        result = app(["cancel", *words], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        result = type(error).__name__
    print(" ".join(words), "->", result)
    return result


for option in ("--status", "--since", "--count", "--ids"):
    assert run(option, "null") == run(option, "None") == {}
    assert run(option, "nil") == "CoercionError"
assert run("--dry=null") == {}
assert run("--ids", "1", "--ids", "null") == "CoercionError"
assert run("--tag", "null") == {"tag": "null"}
assert run("--file", "null") == {"file": Path("null")}

with_count = typer.Typer()


@with_count.command()
def by_count(count: int | None = None):
    pass


code = CliRunner().invoke(with_count, ["--count", "null"]).exit_code
print("typer: --count null -> exit code", code)
assert code == 2
PYTHON
