"""`photojobs status` shows what runs, waits, failed and comes next, once or repeatedly."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, LanesRepository

Command = Callable[..., Any]


@pytest.fixture
def busy(place_database: Database) -> dict[str, int]:
    """Create a running job that fills its lane, a waiting, a delayed and a failed job; return their ids."""
    jobs = JobsRepository(place_database)
    LanesRepository(place_database).change("normal", slots=1)
    jobs.enqueue(tenant_id="anna", type="metadata", progress_total=100)
    running = jobs.claim_next("host-1")
    assert running is not None
    jobs.update_progress(running.id, done=25)
    failed = jobs.enqueue(tenant_id="ben", type="folder_check")
    jobs.fail(failed.id, "the share is away\nand more")
    waiting = jobs.enqueue(tenant_id="ben", type="metadata", priority=3)
    later = jobs.enqueue(tenant_id="ben", type="metadata", run_after=place_database.clock().replace(year=2099))
    return {"running": running.id, "failed": failed.id, "waiting": waiting.id, "later": later.id}


def test_status_tells_what_runs_how_fast_and_what_waits_and_why(
    command: Command, busy: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    document = command("status", "--json").document

    (running,) = document["running"]
    assert (running["job"]["id"], running["job"]["worker_id"]) == (busy["running"], "host-1")
    assert running["rate"] > 0
    assert running["remaining_seconds"] == pytest.approx(75 / running["rate"], rel=0.01)
    assert [(one["job"]["id"], one["reason"]["name"]) for one in document["waiting"]] == [
        (busy["waiting"], "slots"),
        (busy["later"], "run_after"),
    ]
    assert (document["jobs"]["queued"], document["delayed"]) == (2, 1)
    assert [executor["worker_id"] for executor in document["activity"]["alive"]] == ["host-1"]
    (failure,) = document["failures"]
    assert (failure["type"], failure["reason"], failure["count"]) == ("folder_check", "the share is away", 1)
    # No server runs in this test, so no run is planned.
    scheduled = {run["definition"]: (run["next_at"], run["standing"]) for run in document["schedules"]}
    assert scheduled["folder_discovery"] == scheduled["maintenance_global"] == (None, "no server")


def test_status_is_the_same_for_people(command: Command, busy: dict[str, int]) -> None:
    lines = command("status").out.splitlines()

    assert "At work   host-1 (1 running)" in lines
    assert any("25/100" in line and "host-1" in line for line in lines)
    assert any("The lane normal has no free slot; slots: 1, in use by" in line for line in lines)
    assert any("the share is away" in line for line in lines)
    assert any(line.startswith("maintenance_global") and "0 3 * * * UTC" in line for line in lines)


def test_held_jobs_are_not_left_out_if_nothing_is_at_work(command: Command, place_database: Database) -> None:
    JobsRepository(place_database).enqueue(tenant_id="ben", type="metadata")
    command("hold", "lane", "normal")

    assert "At work   nothing, while 1 job waits" in command("status").out.splitlines()


def test_rows_with_times_that_are_no_times_are_shown(
    command: Command, busy: dict[str, int], place_database: Database
) -> None:
    JobsRepository(place_database).fail(busy["later"], "the share is away")
    with place_database.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_at = 'long ago', started_at = 'today', heartbeat_at = 'now'"))
        connection.execute(text("UPDATE jobs SET finished_at = 'soon', run_after = 'later', result_json = '[1]'"))
    document = command("status", "--json").document

    assert [(one["count"], one["last_at"]) for one in document["failures"]] == [(1, None), (1, None)]
    assert (document["running"][0]["seconds"], document["waiting"][0]["seconds"]) == (0, 0)
    assert "the share is away" in command("status").out
    for job_id in busy.values():
        assert str(job_id) in command("jobs", "show", str(job_id)).out


def test_a_clock_that_was_set_back_and_a_message_that_begins_with_a_line_break_are_shown_as_usual(
    command: Command, busy: dict[str, int], place_database: Database
) -> None:
    values = {"started": "2025-01-02T00:00:00.000Z", "finished": "2025-01-01T00:00:00.000Z", "id": busy["failed"]}
    with place_database.begin() as connection:
        statement = "UPDATE jobs SET error_message = '\n\n' || error_message, started_at = :started"
        connection.execute(text(f"{statement}, finished_at = :finished WHERE id = :id"), values)

    line = command("jobs", "list", "--status", "failed").out.splitlines()[1]

    assert line.endswith("  0.0 s  the share is away")


def test_of_one_tenant_other_tenants_jobs_are_left_out(command: Command, busy: dict[str, int]) -> None:
    document = command("status", "--tenant", "anna", "--json").document

    assert len(document["running"]) == 1
    assert document["waiting"] == document["failures"] == []
    counted = command("status", "--tenant", "anna").out.splitlines()[1]
    assert counted.endswith("; 1 of the queued jobs starts later (all tenants)")
    watched = command("status", "--tenant", "anna", "--watch", "--times", 1).out
    assert watched.endswith(" canceled (all tenants)\n")


def test_watching_without_a_terminal_prints_a_line_for_each_look(command: Command, busy: dict[str, int]) -> None:
    ran = command("status", "--watch", "--interval", "0.01", "--times", 3)

    assert ran.code == 0
    assert len(ran.out.splitlines()) == 3
    lanes = "normal 1/1), 2 queued (1 to run later), 1 failed, 0 completed"
    assert all("1 running (" in line and lanes in line for line in ran.out.splitlines())
    documents = command("status", "--watch", "--interval", "0.01", "--times", 2, "--json").out.splitlines()
    assert [json.loads(line)["jobs"]["running"] for line in documents] == [1, 1]


def test_watching_ends_with_ctrl_c_as_a_success(launch: Command, busy: dict[str, int]) -> None:
    process = launch("status", "--watch", "--interval", "0.05")
    assert "1 running" in process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=30)

    assert (process.returncode, complaints) == (0, "")


@pytest.mark.full
def test_status_of_a_million_jobs_takes_less_than_two_seconds(command: Command, place_database: Database) -> None:
    with place_database.begin() as connection:
        connection.exec_driver_sql("""
            WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1000000)
            INSERT INTO jobs (tenant_id, type, status, scope, priority, created_at, attempts)
            SELECT 't', 'metadata', CASE WHEN value % 4 THEN 'queued' ELSE 'failed' END, 'photo_set', value % 100,
                '2025-10-01T12:00:00.000Z', 0 FROM n
        """)
    began = time.monotonic()

    assert command("status").code == 0

    assert time.monotonic() - began < 2
