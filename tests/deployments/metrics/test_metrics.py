"""Prometheus reads the current queue, and each ended job exactly once."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from deployments.errors import MetricsNotServed
from deployments.metrics import queue_collector
from deployments.metrics.endpoint import metrics_endpoint
from deployments.metrics.queue_collector import SETTLED_SECONDS, QueueCollector
from storage import Database, JobsRepository, LanesRepository, Settings
from storage.errors import DatabaseUnavailable

DASHBOARD = Path(__file__).parents[3] / "docs" / "observability" / "grafana-dashboard.json"


class Scrape:
    """The numbers of one database, read as Prometheus does."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(QueueCollector(database))
        self.get = self.registry.get_sample_value


@pytest.fixture
def scrape(database: Database) -> Scrape:
    return Scrape(database)


def end(jobs: JobsRepository, clock: Any, *, ran_seconds: float = 2, **columns: Any) -> None:
    job = jobs.enqueue(**{"tenant_id": "t", "type": "metadata", "priority": 95} | columns)
    jobs.claim_next("worker")
    clock.advance(seconds=ran_seconds)
    jobs.complete(job.id)


def test_lanes_show_what_waits_runs_and_may_run(
    database: Database, scrape: Scrape, jobs: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("priority", slots=3)
    jobs.enqueue_many([{"tenant_id": "t", "type": "metadata", "priority": 95}] * 3)
    jobs.enqueue(tenant_id="t", type="folder_check", priority=10)
    clock.advance(seconds=40)
    jobs.claim_next("worker")

    lane = {"lane": "priority"}
    assert scrape.get("photojobs_jobs_queued", lane) == 2
    assert scrape.get("photojobs_jobs_running", lane) == 1
    assert scrape.get("photojobs_lane_slots", lane) == 3
    assert scrape.get("photojobs_oldest_waiting_seconds", lane) == 40
    assert scrape.get("photojobs_jobs_open", {"type": "metadata", "status": "queued"}) == 2
    assert scrape.get("photojobs_jobs_open", {"type": "folder_check", "status": "queued"}) == 1
    assert scrape.get("photojobs_database_up") == 1


def test_each_ended_job_counts_once_however_often_one_scrapes(
    database: Database, jobs: JobsRepository, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_collector, "MAX_ENDED_PER_SCRAPE", 2)
    end(jobs, clock)
    clock.advance(seconds=SETTLED_SECONDS + 1)
    scrape = Scrape(database)
    for _ in range(5):
        end(jobs, clock, ran_seconds=0)
    jobs.fail(jobs.enqueue(tenant_id="t", type="metadata", priority=95).id, "no")
    labels = {"lane": "priority", "type": "metadata"}

    assert scrape.get("photojobs_jobs_ended_total", labels | {"status": "completed"}) is None
    clock.advance(seconds=SETTLED_SECONDS + 1)
    seen = [scrape.get("photojobs_jobs_ended_total", labels | {"status": "completed"}) for _ in range(6)]

    # Prometheus sees no increase from a missing number to 2, so the numbers of a type begin with 0.
    assert seen == [0, 2, 4, 5, 5, 5]
    assert scrape.get("photojobs_jobs_ended_total", labels | {"status": "failed"}) == 1
    assert scrape.get("photojobs_jobs_ended_total", labels | {"status": "canceled"}) == 0


def test_run_and_wait_times_fall_into_their_buckets(database: Database, jobs: JobsRepository, clock: Any) -> None:
    scrape = Scrape(database)
    end(jobs, clock, ran_seconds=2)
    clock.advance(seconds=SETTLED_SECONDS + 1)
    labels = {"lane": "priority", "type": "metadata"}

    assert [scrape.get("photojobs_job_run_seconds_sum", labels) for _ in range(2)] == [0, 2]
    assert scrape.get("photojobs_job_run_seconds_bucket", labels | {"le": "1.0"}) == 0
    assert scrape.get("photojobs_job_run_seconds_bucket", labels | {"le": "2.5"}) == 1
    assert scrape.get("photojobs_job_wait_seconds_count", {"lane": "priority"}) == 1


def test_a_time_that_cannot_be_read_keeps_no_other_job_from_being_counted(
    sqlite_database: Database, clock: Any
) -> None:
    jobs, scrape = JobsRepository(sqlite_database), Scrape(sqlite_database)
    for _ in range(4):
        end(jobs, clock)
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = 'yesterday' WHERE id = 1")
        connection.exec_driver_sql("UPDATE jobs SET started_at = 'yesterday' WHERE id = 2")
        connection.exec_driver_sql("UPDATE jobs SET finished_at = substr(finished_at, 1, 10) || 'T99' WHERE id = 4")
    clock.advance(seconds=2 * 86_400)
    labels = {"lane": "priority", "type": "metadata"}

    seen = [scrape.get("photojobs_jobs_ended_total", labels | {"status": "completed"}) for _ in range(3)]
    assert seen == [0, 3, 3]
    assert scrape.get("photojobs_job_run_seconds_sum", labels) == 4
    assert scrape.get("photojobs_job_wait_seconds_count", {"lane": "priority"}) == 1


def test_types_that_anybody_made_up_cannot_fill_prometheus(
    database: Database, jobs: JobsRepository, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_collector, "MAX_TYPES", 3)
    scrape = Scrape(database)
    for number in range(6):
        end(jobs, clock, ran_seconds=0, type=f'odd"\n{number}')
        jobs.enqueue(tenant_id="t", type=f"odd{number}", priority=1)
    clock.advance(seconds=SETTLED_SECONDS + 1)

    families = {family.name: family for family in scrape.registry.collect()}
    assert len({sample.labels["type"] for sample in families["photojobs_jobs_ended"].samples}) == 4
    assert len({sample.labels["type"] for sample in families["photojobs_jobs_open"].samples}) == 3


def test_a_database_that_is_away_is_a_number_and_no_error(
    database: Database, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(database, "connect", away)

    assert scrape.get("photojobs_database_up") == 0
    assert scrape.get("photojobs_jobs_queued", {"lane": "priority"}) is None


def test_registering_reads_nothing(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))

    Scrape(database)

    assert statements == []


def settings(**changes: Any) -> Settings:
    return Settings.load(**changes)


def test_without_a_port_nothing_listens_and_with_one_only_this_machine_is_answered(
    postgresql_database: Database,
) -> None:
    with metrics_endpoint(postgresql_database, settings()) as address:
        assert address is None
    with metrics_endpoint(postgresql_database, settings(metrics_port=0)) as address:
        assert address is not None
        assert address.startswith("http://127.0.0.1:")
        families = {family.name for family in text_string_to_metric_families(read(address))}
    assert {"photojobs_jobs_queued", "photojobs_info", "process_cpu_seconds"} <= families
    with pytest.raises(OSError, match="refused"):
        read(address)


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as response:
        return str(response.read().decode())


def test_a_second_process_with_the_same_settings_works_without_answering(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with metrics_endpoint(sqlite_database, settings(metrics_port=port)) as address:
            assert address is None

    assert f"another process uses 127.0.0.1:{port}" in caplog.text
    assert "PHOTOJOBS_METRICS_PORT" in caplog.text


def test_an_address_of_another_machine_is_said_in_one_line(sqlite_database: Database) -> None:
    elsewhere = settings(metrics_port=0, metrics_host="192.0.2.1")
    with (
        pytest.raises(MetricsNotServed, match=r"192\.0\.2\.1:0.*PHOTOJOBS_METRICS_HOST"),
        metrics_endpoint(sqlite_database, elsewhere),
    ):
        pass


def test_a_worker_answers_and_logs_as_the_settings_say(launch: Callable[..., subprocess.Popen[str]]) -> None:
    worker = launch("worker", PHOTOJOBS_METRICS_PORT="0", PHOTOJOBS_LOG_FORMAT="json")
    try:
        lines = iter(worker.stdout.readline, "")
        address = next(line for line in lines if line.startswith("metrics: ")).split()[1]
        assert "photojobs_jobs_running" in read(address)
    finally:
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert [json.loads(line)["logger"] for line in err.splitlines()] == ["photojobs.metrics"]


def test_every_query_of_the_dashboard_asks_for_numbers_and_labels_that_there_are(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    scrape = Scrape(database)
    end(jobs, clock)
    jobs.enqueue(tenant_id="t", type="metadata", priority=95)
    clock.advance(seconds=SETTLED_SECONDS + 1)
    LanesRepository(database).change("normal", slots=2)
    known: dict[str, set[str]] = {}
    for family in scrape.registry.collect():
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]

    assert len(queries) >= 8
    for query in queries:
        names = set(re.findall(r"\bphotojobs_\w+", query))
        assert names
        assert names <= known.keys(), query
        labels = {label for name in names for label in known[name]} | {"instance"}
        grouped = re.findall(r"\b(?:by|without) ?\(([^)]*)\)", query)
        used = {label.strip() for group in grouped for label in group.split(",")}
        used |= set(re.findall(r"(\w+)=~?\"", query))
        assert used <= labels | {"job"}, query
    assert {name for query in queries for name in re.findall(r"\bphotojobs_\w+", query)} >= {
        "photojobs_jobs_queued",
        "photojobs_oldest_waiting_seconds",
        "photojobs_job_run_seconds_bucket",
        "photojobs_jobs_ended_total",
        "photojobs_lane_slots",
    }
