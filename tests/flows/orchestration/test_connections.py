"""The process of a flow run opens only few connections to PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows import run_task
from flows.process.runtime import Runtime
from flows.telemetry.events import Event
from storage import Database, PhotosRepository, ProjectsRepository
from tests.flows.conftest import quick_settings
from tests.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.prefect, pytest.mark.xdist_group("prefect")]

#: The number of jobs: more than connections, and all of them wait from the beginning.
JOBS = 24

#: A connection is kept if two threads needed one at the same moment, so a run in which all threads meet has more than
#: usual. If each waiting job had one, every run would have too many.
RUNS = 10


def test_a_flow_run_needs_at_most_six_connections_however_many_jobs_wait(
    prefect_api: str, postgresql_url: str, tmp_path: Path, stage: Any, define: Any
) -> None:
    settings = quick_settings(
        tmp_path, database_url=postgresql_url, concurrency=2, heartbeat_seconds=20, stale_seconds=200
    )
    definition = define("many", {"type": "note", "priority": 50, "chunk_size": 1})
    counts: list[list[int]] = []
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as observer:

        def connections() -> int:
            [[count]] = observer.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                # The server's own processes, such as an autovacuum worker, are in the database at any time.
                "AND backend_type = 'client backend'"
            ).fetchall()
            return int(count)

        def sample(event: Event) -> None:
            if event.name == "photojobs.job.running":
                counts[-1].append(connections())

        while not counts or (max(counts[-1]) > 6 and len(counts) < RUNS):
            wait_until(lambda: connections() == 0, what="the connections of the run before are closed")
            counts.append([])
            with Runtime(Database(postgresql_url), settings=settings) as runtime, runtime.as_current():
                runtime.events.listen(sample)
                project = ProjectsRepository(runtime.database).create(
                    project_name=f"p{len(counts)}", project_folder=f"p{len(counts)}"
                )
                photos = [{"project_id": project.id, "filename": f"{number}.jpg"} for number in range(JOBS)]
                items = [{"photo_id": id_} for id_ in PhotosRepository(runtime.database).create_many(photos)]
                summary = run_task(type=definition, tenant_id="user_0", items=items)
            assert summary.task.status == "completed"
            assert len(counts[-1]) == JOBS
    assert max(counts[-1]) <= 6, counts
