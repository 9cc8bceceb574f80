"""The product has no circular imports and imports no undeclared package; a circle has no file to read first."""

from __future__ import annotations

import re
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, requires

import grimp
import pytest

PACKAGES = ("task_definitions", "storage", "flows", "deployments")


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 300
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_every_package_that_is_imported_is_a_declared_dependency() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, include_external_packages=True)
    imported = {module.partition(".")[0] for module in graph.modules} - sys.stdlib_module_names - set(PACKAGES)
    declared = {_normalized(re.split(r"[^\w.-]", requirement)[0]) for requirement in requires("photojobs") or ()}
    providers = packages_distributions()

    undeclared = {
        package for package in imported if declared.isdisjoint(map(_normalized, providers.get(package, [package])))
    }

    assert len(imported) > 20
    assert undeclared == set()


def _normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
