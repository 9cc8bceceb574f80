#!/usr/bin/env bash
# One `0000-00-00` in a YAML file, the date of a camera without a clock, makes it unreadable by an error that is no YAMLError.
#
# Guess: `except yaml.YAMLError` catches all that is wrong with a file, and the error has its line. A text that is no date, such as
#     `2024-02-30`, is a text, as `2024-02-3x` is.
# Behaviour: what looks like a date becomes one, and `datetime` refuses it with a plain ValueError: "year 0 is out of range", without
#     the line, the key or the file. It passes the handler of the program, so that a list of sidecars or settings ends at the first
#     such file. Nothing of the file is returned. So it is with the day 2024-02-30 and with the hour 24, which cameras write, in
#     PyYAML and in all forms of ruamel.yaml. tomllib, with dates of its own, raises its own error with the line.
# Versions: PyYAML 6.0.4, ruamel.yaml 0.19.1; Python 3.11 and later.
# Date: 2026-11-29.
# Source: yaml/constructor.py, SafeConstructor.construct_yaml_timestamp; https://github.com/yaml/pyyaml/issues/382.
# Covered by: task_definitions/foreign_documents.py, `_PARSER_ERRORS`; tests/task_definitions/test_foreign_documents.py, "what is beyond
#     the bounds is refused in one line".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q PyYAML==6.0.4 ruamel.yaml==0.19.1
"$folder/venv/bin/python" - <<'PYTHON'
import tomllib

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

LOADERS = {
    "PyYAML": yaml.safe_load,
    "ruamel.yaml, safe": YAML(typ="safe", pure=True).load,
    "ruamel.yaml, round trip": YAML().load,
}
DATES = {"0000-00-00": "year", "2024-02-30": "day", "2024-05-17 24:00:00": "hour"}

for name, load in LOADERS.items():
    assert load("title: a\ntaken: 2024-02-3x\n")["taken"] == "2024-02-3x"
    for date, part in DATES.items():
        assert load(f"title: a\ntaken: '{date}'\n")["taken"] == date
        try:
            load(f"title: a\ntaken: {date}\n")
        except (yaml.YAMLError, YAMLError):
            raise SystemExit("the error is one of YAML") from None
        except ValueError as error:
            print(f"{name}: {date}: {type(error).__name__}: {error}")
            assert type(error) is ValueError and part in str(error) and "line" not in str(error)
for date in DATES:
    try:
        tomllib.loads(f"title = 'a'\ntaken = {date}\n")
    except tomllib.TOMLDecodeError as error:
        print(f"tomllib: {date}: {error}")
        assert "line 2" in str(error)
    else:
        raise SystemExit("tomllib accepts the date")
PYTHON
