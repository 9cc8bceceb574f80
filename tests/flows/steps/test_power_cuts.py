"""After a power cut that undoes changes of library or database, the repeated step ends like an undisturbed one.

The suite cuts the power at some changes of the steps that move files. For all changes of all steps, on both databases,
with several states of the disks: `python -m pytest -n 0 -m full tests/flows/steps/test_power_cuts.py --timeout 0`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flows.testing import run_queued_job
from storage import Database
from task_definitions.step_types import BUILTIN_STEP_TYPES
from tests.flows.steps.power_cuts import PowerCuts
from tests.flows.steps.test_faults_at_every_change import outcome, prepare

#: The number of states of the disks that the long form tries at each change.
STATES = 8

MOVING = ("duplicate_resolution", "file_removal", "image_move_files")


@pytest.fixture
def power_cuts(studio: Any, deaths: Any, tmp_path: Any) -> PowerCuts:
    return PowerCuts(studio, deaths, tmp_path)


def undisturbed(studio: Any, type: str, jpeg: Callable[..., bytes]) -> dict[str, Any]:
    job_id = prepare(studio, type, jpeg)
    assert run_queued_job(studio.runtime, job_id).status == "completed"
    return outcome(studio)


def cut(power_cuts: PowerCuts, studio: Any, type: str, jpeg: Any, number: int, seed: int, wanted: Any) -> bool:
    if not power_cuts.at(number, lambda studio: prepare(studio, type, jpeg), seed=seed):
        return False
    assert outcome(studio) == wanted, f"{type}, power cut at change {number}, seed {seed}"
    return True


class TestOnSqlite:
    @pytest.fixture
    def database(self, sqlite_database: Database) -> Iterator[Database]:
        return sqlite_database

    @pytest.mark.parametrize("type", MOVING)
    def test_some_changes_of_steps_that_move_files(
        self, studio: Any, power_cuts: PowerCuts, jpeg: Any, type: str
    ) -> None:
        wanted = undisturbed(studio, type, jpeg)
        tried = [
            number
            for number in random.Random(type).sample(range(2, 14), 5)
            if cut(power_cuts, studio, type, jpeg, number, number, wanted)
        ]
        assert len(tried) > 2


@pytest.mark.full
@pytest.mark.parametrize("type", sorted(BUILTIN_STEP_TYPES))
def test_every_change_of_every_step(studio: Any, power_cuts: PowerCuts, jpeg: Any, type: str) -> None:
    wanted = undisturbed(studio, type, jpeg)
    number = 0
    while all(cut(power_cuts, studio, type, jpeg, number, seed, wanted) for seed in range(STATES)):
        number += 1
    assert number > 2
