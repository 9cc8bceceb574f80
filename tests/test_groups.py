"""Tests that share a server run in one process, so that not every process of the suite starts its own servers."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("together")
def test_a_group_is_known_to_those_who_hand_out_tests(request: pytest.FixtureRequest) -> None:
    is_spread = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@together") == is_spread, f"pytest-xdist does not suit {pytest.__version__}"
