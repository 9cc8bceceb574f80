"""The pages of the Python interface: every public name of the three packages, with its docstring."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType

from docs_site.markdown import code, table

_WHAT = {
    "task_definitions": "What runs: the model of definitions, the built-in ones, and the loader of your own.",
    "storage": "Where state lives: the database, its repositories and records. Needs no Prefect.",
    "flows": "How it runs: starting and running tasks, steps of your own, plans, and working off the queue.",
}
_OPTIONS = "{heading_level: 2, show_root_full_path: false}"


def python_page(package: str) -> str:
    """The page of one of the packages."""
    module = import_module(package)
    names = [name for name in module.__all__ if not _is_repeated(module, name)]
    constants = [name for name in names if not hasattr(getattr(module, name), "__module__")]
    documented = [name for name in names if name not in constants and not _is_error(module, name)]
    documented.sort(key=lambda name: (inspect.isclass(getattr(module, name)), name))
    parts = [f"# {package}\n", f"{_WHAT[package]}\n"]
    if coroutines := [name for name in module.__all__ if name not in names]:
        parts.append(
            f"For coroutines there are {', '.join(map(code, coroutines))}: the same as the functions without the `a`, "
            "in a thread of its own.\n"
        )
    if constants:
        parts += [
            table(("constant", "value"), [(code(name), code(str(getattr(module, name)))) for name in constants]),
            "",
        ]
    if any(_is_error(module, name) for name in names):
        parts.append("[Errors](../errors.md) have a page of their own.\n")
    parts += [f"::: {_path(package, name)}\n    options: {_OPTIONS}\n" for name in documented]
    return "\n".join(parts)


def _path(package: str, name: str) -> str:
    # Where a module has the name of what it holds, the package's own name means the module to the reader of the code.
    return f"{package}.{name}.{name}" if f"{package}.{name}" in sys.modules else f"{package}.{name}"


def _is_repeated(module: ModuleType, name: str) -> bool:
    return name.startswith("a") and name[1:] in module.__all__


def _is_error(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    return inspect.isclass(value) and issubclass(value, Exception)
