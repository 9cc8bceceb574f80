#!/usr/bin/env bash
# Python's `json.loads` with a `parse_constant` that refuses Infinity returns an infinity for `1e400`, which is valid JSON.
#
# Guess: JSON has no infinities; Python reads the words NaN, Infinity and -Infinity besides, and `parse_constant` is the way to refuse them.
#     So a document that passed has finite numbers only, and can be written again, and stored in any database.
# Behaviour: `parse_constant` is called for these three words alone. A number of the right form that no float holds becomes inf, without
#     a call and without an error; an integer of as many digits stays exact. `json.dumps` then writes the word Infinity, which is no JSON:
#     PostgreSQL and SQLite's json_valid refuse it, or it raises an error with `allow_nan=False`, later, in another place, for a value that
#     nobody wrote. A check of `parse_float` finds it where it is read.
# Versions: Python 3.11 to 3.13 with SQLite 3.40 and later. The script needs no package.
# Date: 2026-11-29.
# Source: Modules/_json.c, _match_number_unicode, which calls PyFloat_FromString or `parse_float`; RFC 8259, 6, on the range of numbers.
# Covered by: task_definitions/foreign_documents.py, `_finite`; tests/task_definitions/test_foreign_documents.py, "what is beyond the bounds
#     is refused in one line".
set -euo pipefail

python3 - <<'PYTHON'
import json
import math
import sqlite3


def refuse(name):
    raise ValueError(f"{name} is refused")


def finite(text):
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is refused")
    return number


def read(text, **options):
    try:
        result = json.loads(text, parse_constant=refuse, **options)
    except ValueError as error:
        result = str(error)
    print(f"{text:.40} {'with parse_float ' if options else ''}-> {result!r:.40}")
    return result


assert read("Infinity") == "Infinity is refused"
large, negative = read("1e400"), read("-1.5e999")
assert (large, negative) == (math.inf, -math.inf)
assert read("1" + "0" * 400) == 10**400
assert read("1e400", parse_float=finite) == "1e400 is refused"
written = json.dumps({"exposure": large})
database = sqlite3.connect(":memory:")
valid = {text: database.execute("SELECT json_valid(?)", [text]).fetchone()[0] for text in ('{"exposure": 1e400}', written)}
print(f"written again: {written}; valid JSON by SQLite: {valid}")
assert list(valid.values()) == [1, 0] and "Infinity" in written
try:
    json.dumps(large, allow_nan=False)
    raise SystemExit("allow_nan=False wrote an infinity")
except ValueError as error:
    print("with allow_nan=False:", error)
PYTHON
