"""Jobs run in the processes of a Dask cluster, each of which opens its own runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.errors import ClusterFailed, MissingDask
from flows.orchestration import dask_cluster
from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, Settings, TasksRepository

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]

DEFINITION = """
read_metadata:
  label: Read Metadata
  scope: photo_set
  steps:
    - {type: metadata, priority: 95, chunk_size: 2}
    - {type: manifest_check, priority: 50}
"""


@pytest.fixture
def photos(rows: Database, place: Any, make_images: Callable[[Path, int], None]) -> list[int]:
    make_images(place.library / "user_0" / "alps", 8)
    project = ProjectsRepository(rows).create(project_name="alps", project_folder="alps", tenant_id="user_0")
    names = [{"project_id": project.id, "filename": f"photo_{number}", "jpg_available": 1} for number in range(8)]
    return PhotosRepository(rows).create_many(names)


@pytest.mark.slow
def test_the_chunks_of_a_photo_set_run_in_the_processes_of_a_cluster_each_item_once(
    shell: Callable[..., Any],
    place: Any,
    database_url: str,
    rows: Database,
    photos: list[int],
    prefect_url: str,
) -> None:
    (place.folder / "own.yaml").write_text(DEFINITION)

    ran = shell(
        *("run", "read_metadata", "--all", "--json"),
        PHOTOJOBS_DATABASE_URL=database_url,
        PHOTOJOBS_DEFINITIONS=str(place.folder / "own.yaml"),
        PHOTOJOBS_TASK_RUNNER="dask",
        PHOTOJOBS_DASK_WORKERS="2",
        PHOTOJOBS_IMAGE_ISOLATION="false",
        PHOTOJOBS_CONCURRENCY="1",
        PREFECT_API_URL=prefect_url,
    )

    assert ran.code == 0, ran.err
    task_id = ran.document["task_id"]
    jobs = TasksRepository(rows).list_jobs(task_id)
    assert [(job.type, job.status) for job in jobs] == [("metadata", "completed")] * 4 + [
        ("manifest_check", "completed")
    ]
    items = [item for job in jobs for item in JobsRepository(rows).list_items(job.id)]
    assert sorted(item.photo_id for item in items) == sorted(photos)
    assert {(item.status, item.attempts) for item in items} == {("done", 1)}
    executors = {job.worker_id for job in jobs if job.type == "metadata"}
    assert len(executors) == 2


def test_without_the_extra_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: None)

    with pytest.raises(MissingDask, match=r"pip install 'photojobs\[dask\]'"):
        dask_cluster.dask_task_runner(Settings.load())


def test_a_cluster_that_can_run_nothing_ends_the_flow_run_instead_of_being_asked_for_ever() -> None:
    class Outcome:
        status = "error"

        def exception(self) -> Exception:
            return ModuleNotFoundError("No module named 'flows'")

    class Future:
        wrapped_future = Outcome()

    with pytest.raises(ClusterFailed, match="No module named 'flows'"):
        dask_cluster.raise_if_none_ran([Future(), Future()])  # type: ignore[list-item]


def test_the_cluster_of_the_settings_is_joined() -> None:
    runner = dask_cluster.dask_task_runner(Settings.load(dask_address="tcp://scheduler:8786"))

    assert getattr(runner, "address", None) == "tcp://scheduler:8786"
