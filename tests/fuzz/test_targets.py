"""The fuzz targets read their own valid inputs, from which the fuzzer begins."""

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_its_valid_inputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The target of settings sets this variable.
    monkeypatch.setenv("PHOTOJOBS_CONFIG", "")
    for seed in TARGETS[name].seeds:
        TARGETS[name].read(seed)
