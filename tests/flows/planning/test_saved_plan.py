"""A saved plan is run only under the settings with which it was made, as far as they affect the run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from flows.planning.changes import Change
from flows.planning.saved_plan import VERSION, DamagedPlan, PlanOutdated, SavedPlan, writing_plan
from flows.process.runtime import Runtime
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.new_tasks import NewTask
from storage.settings import Settings
from task_definitions import Scope, load_definitions
from task_definitions.step_types import step_types

#: A value of each setting that affects the changes of a run, other than its default.
MATTER: dict[str, Any] = {
    "trash_ttl_seconds": 5,
    "missing_grace_seconds": 5,
    "unaccepted_files": "trash",
    "jpg_extensions": ("jpg",),
    "raw_extensions": ("nef",),
    "other_extensions": ("png",),
    "rename_user_files": "rename",
    "merge_folders": True,
    "ignored_names": ("@eaDir",),
    "companion_patterns": ("{base}-edit.psd",),
    "max_image_megapixels": 5,
    "settle_seconds": 0,
}

#: The settings that name places, say when and how jobs run, or limit what decoding an image takes on this machine; and
#: the size and quality of derivatives, which a plan does not show.
DO_NOT_MATTER = {
    *("database_url", "library_root", "definitions", "tenant", "scheduled_tenants", "schedules"),
    *("heartbeat_seconds", "stale_seconds", "poll_seconds", "drain_seconds"),
    *("max_attempts", "retry_delay_seconds", "max_retry_delay_seconds"),
    *("concurrency", "max_flow_runs", "window_size", "task_runner", "dask_address", "dask_workers"),
    *("log_format", "metrics_port", "metrics_host", "server_hosts"),
    *("image_seconds", "image_memory_megabytes", "image_isolation"),
    *("thumbnail_pixels", "thumbnail_quality", "preview_pixels", "preview_quality", "webp_effort"),
}


@pytest.fixture
def new() -> NewTask:
    definition = PinnedDefinition.pin(load_definitions()["maintenance_global"], step_types())
    return NewTask(id="planned", tenant_id="user_0", definition=definition, scope=Scope.GLOBAL)


@pytest.fixture
def plan(runtime: Runtime, new: NewTask, tmp_path: Path) -> SavedPlan:
    """A saved plan without changes, made with default settings."""
    runtime.settings = Settings.load()
    with writing_plan(tmp_path / "night.plan", new, runtime, is_thorough=False):
        pass
    return SavedPlan.read(tmp_path / "night.plan")


def test_a_plan_that_cannot_be_written_leaves_no_file(
    runtime: Runtime, new: NewTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runtime.database, "clock", fail)
    with pytest.raises(OSError, match="No space"), writing_plan(tmp_path / "a", new, runtime, is_thorough=False):
        pass
    assert not any("tmp" in path.name for path in tmp_path.iterdir())


def test_each_setting_is_known_to_affect_a_run_or_not() -> None:
    assert MATTER.keys().isdisjoint(DO_NOT_MATTER)
    assert MATTER.keys() | DO_NOT_MATTER == Settings.model_fields.keys(), "put a new setting into one of the two"


@pytest.mark.parametrize("name", MATTER)
def test_a_plan_is_outdated_by_another_value_of_a_setting_that_affects_the_run(plan: SavedPlan, name: str) -> None:
    plan.check_settings(Settings.load())
    with pytest.raises(PlanOutdated, match=f": {name} was .* when the plan was made"):
        plan.check_settings(Settings.load(**{name: MATTER[name]}))


@pytest.mark.parametrize(("version", "age"), [(VERSION + 1, "a newer"), (VERSION - 1, "an older")])
def test_the_plan_of_another_version_of_photojobs_is_refused(plan: SavedPlan, version: int, age: str) -> None:
    header, *rest = plan.path.read_text().splitlines(keepends=True)
    plan.path.write_text(header.replace(f'"version": {VERSION}', f'"version": {version}') + "".join(rest))
    with pytest.raises(DamagedPlan, match=f"was saved by {age} version of photojobs"):
        SavedPlan.read(plan.path)


def test_a_change_of_a_large_value_is_read_back() -> None:
    change = Change(
        step=0, type="x", action="add_row", project_id=1, project="Iceland", columns={"meta_json": (None, "x" * 2**20)}
    )
    assert Change.from_json(change.to_json()) == change


def test_no_other_setting_outdates_a_plan(plan: SavedPlan) -> None:
    assert plan.settings.keys() == MATTER.keys()
