"""Tests that share a server run in one process, so that not every process of the suite starts its own servers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.mark.xdist_group("together")
def test_a_group_is_known_to_those_who_hand_out_tests(request: pytest.FixtureRequest) -> None:
    is_spread = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@together") == is_spread, f"pytest-xdist does not suit {pytest.__version__}"


def test_a_run_of_the_last_failures_is_refused_because_it_would_leave_out_those_of_groups(
    pytestconfig: pytest.Config,
) -> None:
    conftest = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))

    with pytest.raises(pytest.UsageError, match="name the tests"):
        conftest.pytest_configure(SimpleNamespace(args=[], getoption=lambda name, default: name == "lf"))
