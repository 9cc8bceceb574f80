"""PostgreSQL stops, or allows no connection: the workers wait, continue as before, and can be stopped meanwhile.

These tests run two cells, and accept half of the throughput. `python -m tests.pressure` runs all cells; docs/proofs.md
has its results.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.pressure.cells import CELLS, run_cell


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("name", ["server-restart", "pool-exhausted"])
def test_workers_go_on_as_before(name: str, tmp_path: Path) -> None:
    passage = run_cell(replace(CELLS[name], least=0.5), tmp_path, seconds=4)

    assert passage.problems == []
