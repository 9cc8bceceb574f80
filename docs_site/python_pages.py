"""Writes the pages of the Python interface: every public name of the three packages, from its source."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from types import FunctionType, ModuleType

from pydantic import BaseModel

from docs_site.markdown import code, table

_WHAT = {
    "task_definitions": "What runs: the model of definitions, the built-in ones, and the loader of your own.",
    "storage": "Where state is kept: the database, its repositories and records. Needs no Prefect.",
    "flows": "How it runs: starting and running tasks, steps of your own, plans, and working off the queue.",
}
#: Methods with public names that the pages leave out, because only our code and pydantic call them.
_HOOKS = ("from_driver", "from_row", "settings_customise_sources")
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_page(package: str) -> str:
    """Return the page of one of the packages."""
    module = import_module(package)
    names = [name for name in module.__all__ if not _is_repeated(module, name)]
    constants = [name for name in names if not hasattr(getattr(module, name), "__module__")]
    documented = [name for name in names if name not in constants and not _is_error(module, name)]
    documented.sort(key=lambda name: (inspect.isclass(getattr(module, name)), name))
    parts = [f"# {package}\n", f"{_WHAT[package]}\n"]
    if coroutines := [name for name in module.__all__ if name not in names]:
        parts.append(
            f"For coroutines there are {', '.join(map(code, coroutines))}. Each runs the function without the `a` in a "
            "thread of its own.\n"
        )
    if constants:
        parts += [
            table(("constant", "value"), [(code(name), code(str(getattr(module, name)))) for name in constants]),
            "",
        ]
    if any(_is_error(module, name) for name in names):
        parts.append("[Errors](../errors.md) have a page of their own.\n")
    for name in documented:
        parts += _described(getattr(module, name), name)
    return "\n".join(parts)


def _described(value: type | FunctionType, name: str) -> Iterator[str]:
    if value.__name__ != name:
        yield f"## {name}\n\nAnother name of {code(value.__name__)}.\n"
        return
    source = inspect.getsource(import_module(value.__module__))
    nodes = [node for node in _definitions(ast.parse(source).body) if node.name == name]
    yield from _entry(nodes, source, heading=f"## {name}")
    if isinstance(value, type) and issubclass(value, BaseModel):
        described = {field: about.description or "" for field, about in value.model_fields.items()}
        if any(described.values()):
            yield table(("field", "meaning"), [(code(field), meaning) for field, meaning in described.items()]) + "\n"
    if isinstance(value, type):
        for base in value.__mro__:
            if base.__module__.partition(".")[0] in _WHAT:
                yield from _methods_described(base, name)


def _methods_described(value: type, name: str) -> Iterator[str]:
    source = inspect.getsource(import_module(value.__module__))
    for last in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        if last.name == value.__name__:
            public = (each for each in _definitions(last.body) if not each.name.startswith("_"))
            for method, forms in groupby((e for e in public if e.name not in _HOOKS), key=lambda node: node.name):
                yield from _entry(list(forms), source, heading=f"### {name}.{method}")


def _entry(nodes: list[_Definition], source: str, *, heading: str) -> Iterator[str]:
    # If a function has overloads, callers see them instead of the implementation.
    shown = [node for node in nodes if _is_overload(node)] or nodes[-1:]
    yield f"{heading}\n\n```python"
    yield from (_signature(node, source) for node in shown)
    yield "```\n"
    yield from _as_markdown(ast.get_docstring(nodes[-1]) or "")


def _definitions(body: list[ast.stmt]) -> Iterator[_Definition]:
    yield from (node for node in body if isinstance(node, _Definition))


def _is_overload(node: _Definition) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def _signature(node: _Definition, source: str) -> str:
    """Return the lines before the body as they are written; for a class, also its fields and its constructor."""
    decorators = [f"@{text}" for each in node.decorator_list if (text := ast.unparse(each)) != "overload"]
    lines = source.splitlines()[node.lineno - 1 : node.body[0].lineno]
    lines[-1] = lines[-1][: node.body[0].col_offset] if len(lines[-1].strip()) > 0 else ""
    written = re.sub(r" +# noqa.*", "", "\n".join(line[node.col_offset :] for line in lines)).rstrip()
    if not isinstance(node, ast.ClassDef):
        return "\n".join([*decorators, written.removesuffix(":")])
    fields = [
        f"    {_text(field.target, source)}: {_text(field.annotation, source)}"
        for field in node.body
        if isinstance(field, ast.AnnAssign) and not _text(field.target, source).startswith("_")
    ]
    members = [
        f"    {_text(each, source)}"
        for each in node.body
        if isinstance(each, ast.Assign) and not _text(each, source).startswith(("_", "model_config"))
    ]
    made = [
        "    " + _signature(each, source).replace("\n", "\n    ")
        for each in _definitions(node.body)
        if each.name == "__init__"
    ]
    return "\n".join([*decorators, written, *fields, *members, *made]).removesuffix(":")


def _text(node: ast.AST, source: str) -> str:
    return ast.get_source_segment(source, node) or ""


def _as_markdown(docstring: str) -> Iterator[str]:
    """Return a docstring as Markdown, with its sections as lists."""
    in_list = False
    for line in docstring.splitlines():
        if section := _SECTION.match(line):
            in_list = not section[1].startswith("Example")
            yield f"**{section[1]}**\n"
        elif in_list and re.match(r" {4}\S", line):
            name, colon, meaning = line.strip().partition(": ")
            yield f"* `{name}`: {meaning}" if colon and " " not in name else f"* {line.strip()}"
        elif in_list and line.startswith(" "):
            yield f"  {line.strip()}"
        else:
            yield line.removeprefix("    ")
    yield ""


def _is_repeated(module: ModuleType, name: str) -> bool:
    return name.startswith("a") and name[1:] in module.__all__


def _is_error(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    return inspect.isclass(value) and issubclass(value, Exception)
