#!/usr/bin/env bash
# A cyclopts command that takes several paths acts on `2024` if it is given the folder `[2024]`, and refuses `[2024] Alps`.
#
# Guess: `*paths: Path` or `list[Path]` gives each word of the command line as it is, as with click, typer and argparse. JSON is for
#     dictionaries and for options that say so.
# Behaviour: a word that begins with a bracket is parsed as JSON if the parameter is a list of anything but texts, `Path` among
#     them, whether it is an option or positional. `[2024]` is the list of the number 2024, so the one path is `2024`, which may
#     exist as well; `["a", "b"]` is two paths. A name that is no JSON, as most albums in brackets, is an error. A single `Path`
#     and `list[str]` take brackets as they are. `Parameter(json_list=False)` does it for paths, too.
# Versions: cyclopts 5.5.2; typer 0.29.2 to compare.
# Date: 2026-11-29.
# Source: cyclopts/argument/_argument.py, Argument._should_attempt_json_list: only lists of `str` are left alone.
# Covered by: deployments/cli/options/task_options.py, whose lists of names are texts;
#     tests/deployments/cli/test_command_listings.py, "photos to start with may come by id, by file or by what is known of them".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q cyclopts==5.5.2 typer==0.29.2
cat > "$work/by_cyclopts.py" <<'COMMAND'
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App()


@app.command
def show(*paths: Path):
    print([str(path) for path in paths])


@app.command
def show_plainly(*paths: Annotated[Path, Parameter(json_list=False)]):
    print([str(path) for path in paths])


@app.command
def show_texts(*texts: str):
    print(list(texts))


app()
COMMAND
cat > "$work/by_typer.py" <<'COMMAND'
from pathlib import Path

import typer


def show(paths: list[Path]):
    print([str(path) for path in paths])


typer.run(show)
COMMAND

seen() {
    result=$("$work/venv/bin/python" "$work/$@" 2>/dev/null || echo "an error")
    echo "$*: $result"
}

seen by_cyclopts.py show "[2024]"
[ "$result" = "['2024']" ]
seen by_cyclopts.py show "[2024] Alps"
[ "$result" = "an error" ]
seen by_cyclopts.py show-plainly "[2024]"
[ "$result" = "['[2024]']" ]
seen by_cyclopts.py show-texts "[2024]"
[ "$result" = "['[2024]']" ]
seen by_typer.py "[2024]"
[ "$result" = "['[2024]']" ]
