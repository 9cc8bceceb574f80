"""Texts of other programs are parsed within limits; the error for a text beyond them names its source."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from task_definitions.foreign_documents import (
    Bounds,
    UnreadableDocument,
    check_json_depth,
    parse_json,
    parse_toml,
    parse_yaml,
    read_foreign_file,
)

SMALL = Bounds(max_bytes=5_000, max_depth=4, max_values=50)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_yaml, "[[[1]]]"),
        (parse_json, "[[[[1]]]]"),
        (parse_json, '{"[[[[[[": {"\\"[[[[[": ["\\\\"]}}'),
        (parse_toml, "a.b.c.d = 1"),
        (parse_toml, '# ..............\na = "b" # ...........'),
        (parse_yaml, "a: &a [1, 2]\nb: *a"),
    ],
)
def test_what_is_within_the_bounds_is_read(parse: Any, text: str) -> None:
    assert parse(text, source="x", bounds=SMALL)
    assert parse(text.encode(), source="x", bounds=SMALL)


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (parse_yaml, "[[[[1]]]]", "more than 4 levels"),
        (parse_json, "[[[[[1]]]]]", "nested too deeply"),
        (parse_json, '{"a": "]", "b": [[[[1]]]]}', "nested too deeply"),
        (parse_toml, "a.b.c.d.e.f = 1", "nested too deeply"),
        (parse_toml, "a = [[[[[[1]]]]]]", "nested too deeply"),
        (parse_toml, "a = {b = {c = {d.e.f = 1}}}", "nested too deeply"),
        (parse_yaml, "x" * 5_001, "larger than 5000 bytes"),
        (parse_json, '"' + "x" * 5_001 + '"', "larger than 5000 bytes"),
        (parse_toml, "#" * 5_001, "larger than 5000 bytes"),
        (parse_yaml, "\n".join("- 1" for _ in range(200)), "more than 100 keys and values"),
        (parse_yaml, "- !!float " + "1:" * 400 + "1.5", "too many digits"),
        (parse_json, "[NaN]", "NaN is not a JSON value"),
        (parse_json, "[-1e400]", "-1e400 is too large for a number"),
        (parse_yaml, "!!python/name:os.system", "could not determine a constructor"),
        (parse_yaml, "!!timestamp 2024-13-01", "month must be"),
        (parse_yaml, "taken: 0000-00-00", "line 1, column 8: the value does not fit its tag timestamp: year"),
        (parse_yaml, "- !!float x", "line 1, column 3: the value does not fit its tag float: could not convert"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_in_one_line(parse: Any, text: str, problem: str) -> None:
    with pytest.raises(UnreadableDocument) as caught:
        parse(text, source="the file", bounds=SMALL)
    assert str(caught.value).startswith("the file: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_levels_of_a_json_text_are_counted_in_linear_time() -> None:
    # Unclosed and escaped quotes make patterns for strings slow.
    for text in ('"' + '\\"' * 500_000, "[]," * 300_000, '"' + "\\" * 1_000_001, '""' * 500_000 + "[" * 40):
        if text.endswith("[[["):
            with pytest.raises(RecursionError):
                check_json_depth(text, 32)
        else:
            check_json_depth(text, 32)


def test_a_file_is_read_only_if_it_is_regular_and_small(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("12345")
    assert read_foreign_file(file, max_bytes=5) == b"12345"
    for path, problem in ((file, "larger than 4"), (tmp_path, "not a regular file"), (tmp_path / "no", "No such file")):
        with pytest.raises(UnreadableDocument, match=problem):
            read_foreign_file(path, max_bytes=4)


#: Parsers of texts that photojobs wrote itself, and that no other program can change.
OWN_TEXTS = {
    "deployments/serving/spare_process.py",
    "flows/imaging/isolation/worker_process.py",
    "storage/lifecycle/spooled_items.py",
}


def test_no_other_module_parses_yaml_json_or_toml() -> None:
    root = Path(__file__).parents[2]
    parsers = {("yaml", "load"), ("yaml", "safe_load"), ("json", "loads"), ("json", "load")}
    parsers |= {("tomllib", "load"), ("tomllib", "loads"), ("pickle", "loads"), ("pickle", "load")}
    found = set()
    for package in ("task_definitions", "storage", "flows", "deployments"):
        for file in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and (node.func.value.id, node.func.attr) in parsers
                ):
                    found.add(str(file.relative_to(root)))
    assert found - OWN_TEXTS == {"task_definitions/foreign_documents.py"}


def test_json_is_read_as_python_reads_it() -> None:
    value = {"a": [1, 2.5, None, True, 'ü\\"'], "b": {"c": []}}
    assert parse_json(json.dumps(value), source="x") == value
