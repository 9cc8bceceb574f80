#!/usr/bin/env bash
# A cyclopts command whose parameter is an `int` takes 2.6 for 3, and 2.5 for 2: it acts on something else, and reports nothing.
#
# Guess: `int` in the signature refuses what is no whole number, as `int("2.6")` does, and click, typer and argparse, which call
#     it. So ids need no check of their own.
# Behaviour: a text with a dot becomes a float, which is rounded, half to even: `cancel 2.6` cancels 3; 2.5 and 1.5 are both 2.
#     Beyond 2^53 another id comes out even without a fraction: 9007199254740993.0 is 9007199254740992. In `list[int]` it is
#     the same, and a validator of the parameter sees the rounded number alone. A converter that calls `int` refuses them all.
# Versions: cyclopts 5.5.2; click 8.5.1 to compare.
# Date: 2026-11-29.
# Source: cyclopts/_convert.py, _int: "Casting to a float first allows for things like "30.0"".
# Covered by: deployments/cli/options/parameters.py, `WholeNumber`; tests/deployments/cli/test_command_bad_input.py, "a fraction
#     is no id and no number of things", which tries all options.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cyclopts==5.5.2 click==8.5.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from typing import Annotated

import click
from click.testing import CliRunner
from cyclopts import App, CycloptsError, Parameter

app, strict = App(result_action="return_value"), App(result_action="return_value")


@app.default
def cancel(*ids: int, also: list[int] | None = None):
    return [*ids, *(also or [])]


@strict.default
def cancel_exactly(*ids: Annotated[int, Parameter(converter=lambda _type, tokens: int(tokens[0].value))]):
    return list(ids)


@click.command
@click.argument("ids", type=int, nargs=-1)
def by_click(ids):
    click.echo(list(ids))


def taken(command, *words):
    try:
        return command(words, exit_on_error=False, print_error=False)
    except CycloptsError:
        return "refused"


texts = ("2.6", "2.5", "1.5", "9007199254740993.0")
seen = {text: taken(app, text) for text in texts}
print("ids that the function gets:", seen, "and for --also 2.6:", taken(app, "--also", "2.6"))
assert seen == {"2.6": [3], "2.5": [2], "1.5": [2], "9007199254740993.0": [9007199254740992]}
assert taken(app, "--also", "2.6") == [3]
by_others = [taken(strict, "2.6"), CliRunner().invoke(by_click, ["2.6"]).exit_code]
print("a converter that calls int:", by_others[0], "and for 3:", taken(strict, "3"), "click's exit code for 2.6:", by_others[1])
assert by_others == ["refused", 2] and taken(strict, "3") == [3]
PYTHON
