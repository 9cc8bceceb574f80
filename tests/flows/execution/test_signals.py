"""Executors that get a signal to end, or are stopped for some time, finish or return their jobs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.execution.worker import Worker, drain_queue
from flows.orchestration.task_flow import END_SECONDS
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, JobsRepository, Task, TasksRepository
from storage.records import Job
from tests.flows.conftest import quick_settings
from tests.flows.execution.executor_process import DEFINITIONS, Executor, definition
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(library: Path, database_url: str) -> dict[str, str]:
    return {
        "PHOTOJOBS_DATABASE_URL": database_url,
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_HEARTBEAT_SECONDS": "0.2",
        "PHOTOJOBS_STALE_SECONDS": "1.5",
        "PHOTOJOBS_POLL_SECONDS": "0.05",
        "PHOTOJOBS_DRAIN_SECONDS": "20",
        "PHOTOJOBS_CONCURRENCY": "1",
    }


@pytest.fixture
def here(rows: Database, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime in this process on the same database."""
    with Runtime(rows, settings=quick_settings(tmp_path, stale_seconds=1.5)) as opened, opened.as_current():
        yield opened


def start(rows: Database, name: str) -> Task:
    return TasksRepository(rows).start(new_task(definition(name), task_id=f"the-{name}", tenant_id="t"))


def only_job(rows: Database, task_id: str, step_index: int = 0) -> Job:
    [job] = [job for job in TasksRepository(rows).list_jobs(task_id) if job.step_index == step_index]
    return job


def newest(rows: Database) -> Task:
    return TasksRepository(rows).list_newest()[0]


class TestWorkers:
    @pytest.mark.slow_on("sqlite")
    def test_a_worker_that_gets_sigterm_finishes_what_runs_and_claims_nothing_more(
        self, environment: dict[str, str], rows: Database, library: Path
    ) -> None:
        task = start(rows, "lingering")
        with Executor("worker", environment) as worker:
            wait_until((library / "entered").exists, what="the job runs")
            worker.send(signal.SIGTERM)
            waiting = JobsRepository(rows).enqueue(tenant_id="t", type="leave_mark", scope="global", priority=99)
            (library / "gate").touch()

            assert worker.wait() == 0, worker.output()

        assert only_job(rows, task.id).status == "completed"
        left = JobsRepository(rows).get_by_id(waiting.id)
        assert left is not None
        assert left.status == "queued"
        assert only_job(rows, task.id, 1).status == "queued"
        assert not (library / "marked").exists()

    @pytest.mark.slow_on("sqlite")
    def test_a_worker_whose_time_to_drain_is_over_hands_back_and_ends(
        self, environment: dict[str, str], rows: Database, library: Path
    ) -> None:
        task = start(rows, "lingering")
        with Executor("worker", environment | {"PHOTOJOBS_DRAIN_SECONDS": "0.1"}) as worker:
            wait_until((library / "entered").exists, what="the job runs")
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0, worker.output()

        job = only_job(rows, task.id)
        assert (job.status, job.attempts, job.claim_token) == ("queued", 0, None)

    @pytest.mark.slow_on("sqlite")
    def test_a_handler_that_never_comes_to_a_checkpoint_keeps_no_worker_alive(
        self, environment: dict[str, str], rows: Database, library: Path, here: Runtime
    ) -> None:
        task = start(rows, "stubborn")
        with Executor("worker", environment | {"PHOTOJOBS_DRAIN_SECONDS": "0.1"}) as worker:
            wait_until((library / "entered").exists, what="the job runs")
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0, worker.output()

        (library / "gate").touch()
        wait_until(lambda: drain_queue(runtime=here).total, what="its job is rescued")
        assert TasksRepository(rows).get(task.id).status == "completed"

    @pytest.mark.slow_on("sqlite")
    def test_a_worker_that_was_frozen_and_thawed_touches_nothing_any_more(
        self, environment: dict[str, str], rows: Database, library: Path, here: Runtime
    ) -> None:
        task = start(rows, "ticking")
        ticks = library / "ticks"
        second = Worker(here)
        thread = threading.Thread(target=second.run)
        with Executor("worker", environment) as first:
            wait_until(ticks.exists, what="the first worker works")
            first.send(signal.SIGSTOP)
            thread.start()
            ours = f"{os.getpid()} "
            wait_until(lambda: any(line.startswith(ours) for line in lines(ticks)), what="the second took over")
            first.send(signal.SIGCONT)
            seen = len(lines(ticks))
            wait_until(lambda: len(lines(ticks)) > seen + 50, what="the second works on")
            (library / "gate").touch()
            wait_until(lambda: TasksRepository(rows).get(task.id).is_final, what="the task ends")
            first.send(signal.SIGTERM)
            assert first.wait() == 0, first.output()
        second.stop()
        thread.join()

        owners = [line.split()[0] for line in lines(ticks)]
        taken_over_at = next(place for place, owner in enumerate(owners) if owner != str(first.process.pid))
        # The executor may finish a write that it had begun after its checkpoint when it was stopped.
        assert owners[taken_over_at:].count(str(first.process.pid)) <= 1
        job = only_job(rows, task.id)
        assert (job.status, job.attempts) == ("completed", 1)


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
class TestFlowRuns:
    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        return sqlite_url

    def test_ctrl_c_cancels_the_task_and_its_flow_run(
        self, environment: dict[str, str], rows: Database, library: Path, prefect_api: str
    ) -> None:
        with Executor("run lingering", environment) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(signal.SIGINT)
            assert run.wait() == 130, run.output()

        task = newest(rows)
        assert (task.status, task.error_message) == ("canceled", "canceled by Ctrl-C")
        assert only_job(rows, task.id).status == "canceled"
        assert state_of(prefect_api, task) == "CANCELLED"
        assert not (library / "marked").exists()

    @pytest.mark.slow
    def test_a_second_ctrl_c_ends_the_process_at_once_and_leaves_rows_in_order(
        self, environment: dict[str, str], rows: Database, library: Path, prefect_api: str
    ) -> None:
        with Executor("run stubborn", environment) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(signal.SIGINT)
            wait_until(lambda: newest(rows).status == "canceled", what="the task is canceled")
            assert run.process.poll() is None
            run.send(signal.SIGINT)
            assert run.wait(60) == -signal.SIGINT, run.output()

        assert only_job(rows, newest(rows).id).status == "canceled"

    @pytest.mark.slow
    def test_a_flow_run_that_gets_sigterm_hands_back_and_a_worker_goes_on(
        self, environment: dict[str, str], rows: Database, library: Path, prefect_api: str, here: Runtime
    ) -> None:
        task = start(rows, "lingering")
        with Executor(f"follow lingering {task.id}", environment) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(signal.SIGTERM)
            assert run.wait() == -signal.SIGTERM, run.output()

        job = only_job(rows, task.id)
        assert (job.status, job.attempts, job.heartbeat_at) == ("queued", 0, None)
        (library / "gate").touch()
        drain_queue(runtime=here)
        assert TasksRepository(rows).get(task.id).status == "completed"

    @pytest.mark.slow
    def test_a_flow_run_goes_on_where_a_killed_one_stopped(
        self, environment: dict[str, str], rows: Database, library: Path, prefect_api: str
    ) -> None:
        task = start(rows, "lingering")
        with Executor(f"follow lingering {task.id}", environment) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(signal.SIGKILL)
            run.wait()
        (library / "gate").touch()

        with Executor(f"follow lingering {task.id}", environment) as run:
            assert run.wait() == 0, run.output()

        assert TasksRepository(rows).get(task.id).status == "completed"
        assert only_job(rows, task.id).attempts == 1


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
class TestTwoSignalsInARow:
    """After two signals of any kind, the process ends, whatever it and its handlers do.

    The second signal is sent again and again, because two signals of one kind count as one before the first is handled.
    """

    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return environment | {"PHOTOJOBS_DRAIN_SECONDS": "300"}

    def test_a_worker_hands_back_at_once(
        self, environment: dict[str, str], rows: Database, library: Path, first: int, second: int
    ) -> None:
        task = start(rows, "lingering")
        with Executor("worker", environment) as worker:
            wait_until((library / "entered").exists, what="the job runs")
            worker.send(first)
            # This is much less than `drain_seconds`.
            send_until_ended(worker, second, limit_seconds=60)

        assert only_job(rows, task.id).status == "queued"

    def test_a_worker_whose_handler_goes_on_ends_all_the_same(
        self, environment: dict[str, str], rows: Database, library: Path, first: int, second: int
    ) -> None:
        start(rows, "stubborn")
        with Executor("worker", environment) as worker:
            wait_until((library / "entered").exists, what="the job runs")
            worker.send(first)
            send_until_ended(worker, second, limit_seconds=60)

    def test_a_run_ends(
        self, environment: dict[str, str], rows: Database, library: Path, tmp_path: Path, first: int, second: int
    ) -> None:
        definitions = tmp_path / "definitions.json"
        definitions.write_text(json.dumps(DEFINITIONS))
        with Executor("command run stubborn", environment | {"PHOTOJOBS_DEFINITIONS": str(definitions)}) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(first)
            send_until_ended(run, second, limit_seconds=60)

    @pytest.mark.prefect
    @pytest.mark.xdist_group("prefect")
    def test_a_flow_run_ends(
        self,
        environment: dict[str, str],
        rows: Database,
        library: Path,
        prefect_api: str,
        first: int,
        second: int,
    ) -> None:
        task = start(rows, "stubborn")
        quick = environment | {"PHOTOJOBS_DRAIN_SECONDS": "0.1"}
        with Executor(f"follow stubborn {task.id}", quick) as run:
            wait_until((library / "entered").exists, what="the job runs")
            run.send(first)
            send_until_ended(run, second, limit_seconds=END_SECONDS + 60)


def send_until_ended(executor: Executor, number: int, *, limit_seconds: float) -> None:
    def has_ended() -> bool:
        executor.send(number)
        return executor.process.poll() is not None

    wait_until(has_ended, what=executor.output, limit_seconds=limit_seconds, pause_seconds=0.2)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def state_of(prefect_api: str, task: Task) -> str:
    with PrefectApi(prefect_api) as api:
        return api.state(task.flow_run_id)
