"""PostgreSQL goes away, or gives no connection: the workers wait, go on as before, and stop in the middle of it.

The small form: two cells, and half of the throughput will do. The long form is `python -m tests.pressure`; what it
showed is in docs/proofs.md.
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
