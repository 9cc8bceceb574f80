#!/usr/bin/env bash
# pydantic says that a tuple with one bad item is also too short, and says no such thing of a list.
#
# Guess: `tuple[Step, ...]` and `list[Step]` with `min_length=1` report the same errors; the length is that of the input.
# Behaviour: of a tuple, pydantic counts the items that are valid. One bad step of one gives two errors: the real one, and "Tuple
#     should have at least 1 item after validation, not 0" at the place of the whole. With `list` and `set` only the real
#     one is reported. A program that prints all errors sends its user after steps that are there.
# Versions: pydantic 2.14.4.
# Date: 2026-11-28.
# Source: pydantic-core, src/validators/tuple.rs: the length is checked although items have failed.
# Covered by: task_definitions/validation.py, `_is_consequence`; tests/task_definitions/test_definition_errors.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4
"$folder/venv/bin/python" - <<'PYTHON'
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

seen = {}
for kind in (tuple[int, ...], list[int], set[int]):
    for count in (1, 3):
        try:
            TypeAdapter(Annotated[kind, Field(min_length=count)]).validate_python([*range(count - 1), "bad"])
        except ValidationError as error:
            seen[kind, count] = [(fault["loc"], fault["type"]) for fault in error.errors()]
            print(f"{kind}, at least {count}: {[fault['msg'] for fault in error.errors()]}")
for count in (1, 3):
    assert seen[tuple[int, ...], count] == [((count - 1,), "int_parsing"), ((), "too_short")]
    assert seen[list[int], count] == [((count - 1,), "int_parsing")]
    assert [kind for _, kind in seen[set[int], count]] == ["int_parsing"]
PYTHON
