"""How many cores a process may use in a container."""

import os
from pathlib import Path

import pytest

from storage.available_cores import available_cores
from storage.settings import Settings


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    folder = tmp_path / "cgroup"
    (folder / "system.slice" / "photojobs.service").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("own", "limits", "cores"),
    [
        ("0::/", {"": "150000 100000"}, 2),
        ("0::/", {"": "20000 100000"}, 1),
        ("0::/", {"": "max 100000"}, 16),
        ("0::/", {"": "3200000 100000"}, 16),
        ("0::/system.slice/photojobs.service", {"system.slice/photojobs.service": "400000 100000"}, 4),
        ("0::/system.slice/photojobs.service", {"system.slice": "300000 100000"}, 3),
        ("0::/docker/0123", {"": "500000 100000"}, 5),
        ("0::/../other", {}, 16),
        ("4:cpu:/docker/0123", {}, 16),
    ],
    ids=[
        "rounded up",
        "a part",
        "none",
        "more than there are",
        "own",
        "of a parent",
        "of the host",
        "outside",
        "version 1",
    ],
)
def test_a_limit_of_processor_time_counts_as_cores(
    cgroups: Path, own: str, limits: dict[str, str], cores: int, tmp_path: Path
) -> None:
    own_cgroup = tmp_path / "own"
    own_cgroup.write_text(f"{own}\n")
    for folder, limit in limits.items():
        (cgroups / folder / "cpu.max").write_text(f"{limit}\n")
    assert available_cores(cgroups=cgroups, own_cgroup=own_cgroup) == cores


def test_without_cgroups_the_cores_are_those_of_the_process(cgroups: Path, tmp_path: Path) -> None:
    assert available_cores(cgroups=cgroups, own_cgroup=tmp_path / "missing") == 16


def test_the_jobs_of_a_process_need_no_more_cores_than_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    settings = Settings()
    assert (settings.concurrency, settings.max_flow_runs) == (1, 8)
