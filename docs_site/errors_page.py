"""Writes the page of errors: the tree of `PhotojobsError` with the first sentence of each class's docstring."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

from task_definitions.errors import PhotojobsError

_INTRODUCTION = """# Errors

Everything that photojobs raises on purpose is a `PhotojobsError`. Its message says what was wrong, where, and what
to do. A command prints one line for each problem, and ends with exit code 2, or 1 if a run broke off.
`job_items.error_type` has the name of the class.
"""
#: The packages whose modules declare errors.
_PACKAGES = ("task_definitions", "storage", "flows", "deployments")
#: Modules that only Alembic can import; they declare no errors.
_OF_ALEMBIC = ("storage.upkeep.migrations.env", "storage.upkeep.migrations.versions")


def errors_page() -> str:
    """Return the page with the tree of errors as nested lists."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.startswith(_OF_ALEMBIC):
                import_module(module.name)
    return "\n".join((_INTRODUCTION, *_lines(PhotojobsError, depth=0), ""))


def _lines(kind: type[PhotojobsError], *, depth: int) -> Iterator[str]:
    sentence = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    yield f"{'    ' * depth}* **`{kind.__name__}`** (`{kind.__module__}`): {sentence}"
    children = (child for child in kind.__subclasses__() if child.__module__.split(".")[0] in _PACKAGES)
    for child in sorted(children, key=lambda found: found.__name__):
        yield from _lines(child, depth=depth + 1)
