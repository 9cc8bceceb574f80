"""Executors die, freeze and lose their database at random moments, and nothing is lost, done twice or left behind.

The small form: a few seeds. The long form is `python -m tests.faults`; what it showed stands in docs/proofs.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scenario import run_scenario
from tests.faults.server import PrefectServer


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow_on("sqlite")
def test_a_task_survives_whatever_happens_to_its_executors(seed: int, database_url: str, tmp_path: Path) -> None:
    run_scenario(seed, database_url, tmp_path)


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_flow_run_and_its_server_may_die_as_well(sqlite_url: str, tmp_path: Path) -> None:
    with PrefectServer(tmp_path / "prefect") as server:
        outcome = run_scenario(1, sqlite_url, tmp_path, prefect=server)

    assert outcome.faults["server"] > 0
