"""Executors die and freeze at random moments, and their database has faults; no work is lost, done twice or left over.

These tests run a few seeds. `python -m tests.faults` runs many; docs/proofs.md has its results.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.database_faults import DISK_FULL, READ_ONLY, TIMEOUT, small_disk
from tests.faults.scenario import run_scenario
from tests.faults.server import PrefectServer


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow_on("sqlite")
def test_a_task_survives_whatever_happens_to_its_executors(seed: int, database_url: str, tmp_path: Path) -> None:
    run_scenario(seed, database_url, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [READ_ONLY, TIMEOUT])
def test_a_task_survives_a_fault_of_postgresql_that_passes(kind: str, postgresql_url: str, tmp_path: Path) -> None:
    outcome = run_scenario(1, postgresql_url, tmp_path, faults=2, only=kind)

    assert outcome.faults[kind] > 0


@pytest.mark.slow
def test_a_task_survives_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("this process may not mount a small file system")
        outcome = run_scenario(
            1, f"sqlite:///{disk.folder / 'photojobs.db'}", tmp_path, faults=2, disk=disk, only=DISK_FULL
        )

    assert outcome.faults[DISK_FULL] > 0


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_flow_run_and_its_server_may_die_as_well(sqlite_url: str, tmp_path: Path) -> None:
    with PrefectServer(tmp_path / "prefect") as server:
        outcome = run_scenario(1, sqlite_url, tmp_path, prefect=server)

    assert outcome.faults["server"] > 0
