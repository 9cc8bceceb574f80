"""Each reason why a job waits is named with the action to take; the reason that decides comes first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.database.tables import holds, jobs, lanes
from storage.errors import UnknownJob
from storage.lifecycle.heartbeats import record_waiting
from storage.photos.project_labels import project_label
from storage.queue.holds import HoldsRepository
from storage.queue.project_claims import claim_projects
from storage.reports.waiting_reasons import JobExplanation, Reason, Standing, explain_job
from task_definitions.model import MAX_PRIORITY
from tests.conftest import START

Why = Callable[..., JobExplanation]


@pytest.fixture
def why(database: Database) -> Why:
    """A function that returns why a job waits."""

    def explain(job_id: int, **options: Any) -> JobExplanation:
        return explain_job(database, job_id, **({"stale_seconds": 60} | options))

    return explain


@pytest.fixture
def queue(database: Database) -> JobsRepository:
    return JobsRepository(database)


def _named(explained: JobExplanation, name: str) -> Reason:
    return next(reason for reason in explained.reasons if reason.name == name)


def _busy(queue: JobsRepository) -> int:
    """Let another executor run a job, so that an executor is alive; return the job's id."""
    queue.enqueue(tenant_id="busy", type="x", priority=MAX_PRIORITY)
    running = queue.claim_next("someone-alive", tenant_id="busy")
    assert running is not None
    return running.id


def test_a_ready_job_that_nobody_claims_is_told_that_nobody_runs_jobs(
    why: Why, queue: JobsRepository, clock: Any
) -> None:
    job = queue.enqueue(tenant_id="anna", type="metadata", priority=95)
    assert why(job.id).decisive.standing is Standing.WAITS
    clock.advance(seconds=30)

    explained = why(job.id)

    assert (explained.decisive.name, explained.decisive.standing) == ("executor", Standing.BLOCKED)
    assert "photojobs worker" in explained.decisive.remedy
    assert "tenant anna and priority 95" in explained.decisive.remedy
    assert _named(explained, "slots").standing is Standing.FINE
    assert _named(explained, "rank").standing is Standing.FINE


@pytest.mark.parametrize(("kind", "name"), [("tenant", "anna"), ("lane", "normal")])
def test_a_hold_is_named_with_its_reason_and_the_way_out(
    why: Why, database: Database, queue: JobsRepository, kind: str, name: str
) -> None:
    job = queue.enqueue(tenant_id="anna", type="metadata")
    HoldsRepository(database).hold(kind, name, "until the disk is changed")

    decisive = why(job.id).decisive

    assert (decisive.name, decisive.standing) == ("held", Standing.BLOCKED)
    assert "until the disk is changed" in decisive.says
    assert f"photojobs release {kind} {name}" in decisive.remedy


def test_a_row_that_another_program_inserted_under_a_hold_is_known_to_be_held(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    HoldsRepository(database).hold("tenant", "anna")
    job = queue.enqueue(tenant_id="anna", type="metadata")
    with database.begin() as connection:
        connection.execute(update(jobs).values(held_by=None))

    assert why(job.id).decisive.name == "held"
    assert queue.claim_next("worker") is None


def test_a_mark_of_a_hold_that_is_gone_is_found_and_what_is_advised_clears_it(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    job = queue.enqueue(tenant_id="anna", type="metadata")
    HoldsRepository(database).hold("tenant", "anna")
    with database.begin() as connection:
        connection.execute(delete(holds))

    decisive = why(job.id).decisive

    assert "no such hold" in decisive.says
    assert "photojobs release tenant anna" in decisive.remedy
    HoldsRepository(database).release("tenant", "anna")
    assert queue.claim_next("worker") is not None

    by_another_program = queue.enqueue(tenant_id="anna", type="metadata")
    with database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == by_another_program.id).values(held_by="somebody"))
    assert (
        why(by_another_program.id).decisive.remedy == f"Set this column of job {by_another_program.id} to NULL by SQL."
    )


def test_a_held_task_and_its_follow_up_work_are_told_apart(
    why: Why, database: Database, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    tasks = TasksRepository(database)
    task = make_task("items", photo_ids=make_photos(make_project(), 2))
    (first,) = tasks.list_jobs(task.id)
    (follow_up,) = tasks.add_follow_up(task.id, type="x", priority=5, photo_ids=[1])
    HoldsRepository(database).hold("task", task.id)

    assert f"photojobs release task {task.id}" in why(first.id).decisive.remedy
    waits = _named(why(follow_up), "held")
    assert waits.standing is Standing.WAITS
    assert f"after all earlier steps of its task; its task {task.id} is at step 0" in waits.says


def test_a_retry_that_is_due_later_says_when_and_after_which_failure(
    why: Why, queue: JobsRepository, clock: Any
) -> None:
    _busy(queue)
    queue.enqueue(tenant_id="t", type="x")
    job = queue.claim_next("worker")
    assert job is not None
    queue.retry_later(job.id, "the share is away", run_after=clock() + timedelta(minutes=10))

    decisive = why(job.id).decisive

    assert (decisive.name, decisive.standing) == ("run_after", Standing.WAITS)
    assert "10 min 0 s" in decisive.says
    assert "1 failed attempt: the share is away" in decisive.says
    clock.advance(seconds=601)
    assert _named(why(job.id), "run_after").standing is Standing.FINE


def test_a_full_lane_names_the_jobs_that_fill_it_and_for_how_long(
    why: Why, database: Database, queue: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("normal", slots=1)
    queue.enqueue(tenant_id="t", type="slow_step")
    running = queue.claim_next("worker", lane="normal")
    assert running is not None
    clock.advance(seconds=50)
    job = queue.enqueue(tenant_id="t", type="x")

    decisive = why(job.id).decisive

    assert (decisive.name, decisive.standing) == ("slots", Standing.WAITS)
    assert decisive.job_ids == (running.id,)
    assert f"{running.id} (slow_step) for 50.0 s" in decisive.says
    clock.advance(seconds=50)
    dead = why(job.id).decisive
    assert (dead.standing, dead.job_ids) == (Standing.BLOCKED, (running.id,))
    assert "without a recent heartbeat" in dead.says


def test_a_lane_without_slots_and_a_priority_without_a_lane_are_blocks(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    job = queue.enqueue(tenant_id="t", type="x", priority=5)
    with database.begin() as connection:
        connection.execute(update(lanes).where(lanes.c.name == "normal").values(slots=0))
    assert why(job.id).decisive.says == "The lane normal has no slots."
    with database.begin() as connection:
        connection.execute(delete(lanes).where(lanes.c.name == "normal"))
    decisive = why(job.id).decisive
    assert (decisive.name, decisive.standing) == ("lane", Standing.BLOCKED)


def test_the_jobs_that_rank_before_it_are_counted_and_the_best_is_named(
    why: Why, queue: JobsRepository, clock: Any
) -> None:
    _busy(queue)
    queue.enqueue(tenant_id="t", type="x", priority=10)
    clock.advance(seconds=1)
    job = queue.enqueue(tenant_id="t", type="x", priority=10)
    queue.enqueue(tenant_id="t", type="x", priority=10)
    best = queue.enqueue(tenant_id="t", type="x", priority=20)
    queue.enqueue(tenant_id="t", type="x", priority=95)

    ranked = _named(why(job.id), "rank")

    assert ranked.says.startswith(f"2 jobs rank before it in the lane normal; the best is job {best.id}")
    assert ranked.job_ids == (best.id,)
    assert why(best.id).decisive.name == "executor"


def test_more_jobs_before_it_than_are_counted_are_said_to_be_more(
    why: Why, queue: JobsRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.reports.place_in_lane.MAX_COUNTED", 3)
    _busy(queue)
    queue.enqueue_many([{"tenant_id": "t", "type": "x", "priority": 10}] * 5)
    job = queue.enqueue(tenant_id="t", type="x", priority=5)

    assert _named(why(job.id), "rank").says.startswith("more than 3 jobs rank before it")


def test_aging_and_fairness_are_told_where_the_lane_has_them(
    why: Why, database: Database, queue: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("normal", slots=10, aging_seconds=60, fair_tenants=True)
    queue.enqueue(tenant_id="greedy", type="x")
    assert queue.claim_next("worker", lane="normal") is not None
    job = queue.enqueue(tenant_id="greedy", type="x", priority=3)
    queue.enqueue(tenant_id="modest", type="x", priority=3)
    clock.advance(seconds=30)

    explained = why(job.id)

    assert _named(explained, "fairness").standing is Standing.WAITS
    assert "modest runs fewer" in _named(explained, "fairness").says
    clock.advance(seconds=91)
    assert "rank is 5 instead of 3" in _named(why(job.id), "aging").says


def test_a_project_in_the_hands_of_another_job_is_named_with_that_job(
    why: Why, database: Database, queue: JobsRepository, make_project: Any
) -> None:
    project = make_project()
    queue.enqueue(tenant_id="tenant", type="x", project_id=project.id)
    holder = queue.claim_next("worker")
    assert holder is not None
    assert holder.claim_token is not None
    assert claim_projects(database, [project.id], job_id=holder.id, claim_token=holder.claim_token)
    queue.enqueue(tenant_id="tenant", type="x", project_id=project.id)
    waiting = queue.claim_next("worker")
    assert waiting is not None

    for job_id in (waiting.id, queue.enqueue(tenant_id="tenant", type="x", project_id=project.id).id):
        reason = _named(why(job_id), "project")
        assert reason.job_ids == (holder.id,)
        assert f"Job {holder.id} uses project {project_label(project)}" in reason.says
    assert [reason.name for reason in why(holder.id).reasons] == ["running"]


def test_a_type_that_cannot_be_run_here_and_a_scope_without_its_project_are_blocks(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    job = queue.enqueue(tenant_id="t", type="manifest_chek")
    explained = why(job.id, why_not_run=lambda name: f'"{name}" is not a step type.')
    assert explained.decisive.name == "handler"
    assert "manifest_chek" in explained.decisive.says
    with database.begin() as connection:
        connection.execute(update(jobs).values(scope="project"))
    assert why(job.id).decisive.name == "scope"


def test_a_running_job_says_who_runs_it_and_one_that_is_silent_that_it_counts_as_dead(
    why: Why, queue: JobsRepository, clock: Any
) -> None:
    queue.enqueue(tenant_id="t", type="x")
    job = queue.claim_next("worker-7")
    assert job is not None
    clock.advance(seconds=20)

    fine = why(job.id).decisive

    assert fine.standing is Standing.FINE
    assert "worker-7" in fine.says
    assert "20.0 s ago" in fine.says
    for seconds, silence in ((60, "no heartbeat for"), (-3600, "in the future")):
        clock.advance(seconds=seconds)
        stale = why(job.id).decisive
        assert (stale.name, stale.standing, silence in stale.says) == ("stale", Standing.BLOCKED, True)


def test_names_that_another_program_chose_send_nothing_to_the_terminal(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    hostile = "red \x1b[31m\nand more"
    LanesRepository(database).change("normal", slots=1)
    HoldsRepository(database).hold("tenant", hostile, hostile)
    with database.begin() as connection:
        row = {"tenant_id": hostile, "type": hostile, "scope": hostile, "created_at": START}
        for status in ("running", "failed", "queued"):
            connection.execute(insert(jobs).values(**row, status=status, worker_id=hostile, error_message=hostile))
    texts = [
        text for job in queue.list_by_tenant(hostile) for one in why(job.id).reasons for text in (one.says, one.remedy)
    ]
    assert sum("red" in text for text in texts) > 6
    assert [text for text in texts if not text.isprintable()] == []


def test_what_has_ended_says_how_and_how_to_run_it_again(why: Why, queue: JobsRepository) -> None:
    ended = [queue.enqueue(tenant_id="t", type="x") for _ in range(3)]
    queue.complete(ended[0].id)
    queue.fail(ended[1].id, "the file is cut off")
    queue.cancel(ended[2].id)

    completed, failed, canceled = (why(job.id).decisive for job in ended)

    assert (completed.name, completed.standing) == ("completed", Standing.FINE)
    assert "the file is cut off" in failed.says
    assert failed.remedy == f"`photojobs jobs retry {ended[1].id}` runs it again."
    assert canceled.name == "canceled"


def test_a_status_that_photojobs_does_not_know_is_a_block(why: Why, database: Database, queue: JobsRepository) -> None:
    job = queue.enqueue(tenant_id="t", type="x")
    with database.begin() as connection:
        connection.execute(update(jobs).values(status="paused"))
    decisive = why(job.id).decisive
    assert (decisive.name, decisive.standing) == ("status", Standing.BLOCKED)
    assert '"paused"' in decisive.says
    assert "queued, running" in decisive.remedy


def test_a_job_that_a_flow_run_waits_for_says_so(
    why: Why, database: Database, queue: JobsRepository, clock: Any
) -> None:
    job = queue.enqueue(tenant_id="t", type="x")
    clock.advance(seconds=60)
    record_waiting(database, [job.id], worker_id="w")

    assert _named(why(job.id), "executor").standing is Standing.FINE
    clock.advance(seconds=-3600)
    assert _named(why(job.id), "executor").standing is Standing.BLOCKED


def test_a_dead_executor_is_no_sign_of_life(why: Why, queue: JobsRepository, clock: Any) -> None:
    _busy(queue)
    job = queue.enqueue(tenant_id="t", type="x")
    assert _named(why(job.id), "executor").standing is Standing.WAITS
    for seconds in (120, -3600):
        clock.advance(seconds=seconds)
        assert _named(why(job.id), "executor").standing is Standing.BLOCKED


def test_asking_changes_nothing_and_a_job_that_is_not_there_is_refused(
    why: Why, database: Database, queue: JobsRepository
) -> None:
    job = queue.enqueue(tenant_id="t", type="x")

    def rows() -> list[Any]:
        with database.connect() as connection:
            return connection.execute(select(jobs)).all()

    before = rows()
    why(job.id)
    assert rows() == before
    with pytest.raises(UnknownJob, match="job 99 does not exist"):
        why(99)


def test_a_row_of_nothing_but_the_required_columns_is_explained(why: Why, database: Database, clock: Any) -> None:
    with database.begin() as connection:
        job_id = connection.execute(
            insert(jobs)
            .values(tenant_id="t", type="x", status="queued", created_at=clock(), priority=0, scope="photo_set")
            .returning(jobs.c.id)
        ).scalar_one()

    assert why(job_id).job.id == job_id


@pytest.mark.parametrize("status", ["queued", "running"])
@pytest.mark.parametrize("aging_seconds", [None, 60])
def test_a_row_whose_time_cannot_be_read_is_explained(
    database: Database, unreadable_time: str, status: str, aging_seconds: int | None
) -> None:
    LanesRepository(database).change("normal", aging_seconds=aging_seconds)
    job = JobsRepository(database).enqueue(tenant_id="t", type="x")
    with database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET created_at = '{unreadable_time}', status = '{status}'")

    explained = explain_job(database, job.id, stale_seconds=60)

    assert explained.decisive.name == ("executor" if status == "queued" else "stale")
    assert any("an unknown time" in reason.says for reason in explained.reasons)
