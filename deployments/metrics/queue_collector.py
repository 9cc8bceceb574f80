"""Collects numbers about the whole database for Prometheus.

Each process that serves metrics counts the ended jobs of all processes, from its own start on. So the counters of two
processes must not be added.

All numbers are read from the tables, so the jobs of every executor on every machine count, also those of processes that
have ended. A scrape reads, from indexes, the jobs that wait or run and those that ended since the previous scrape.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.metadata import version
from operator import attrgetter

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from storage.database.engine import Database
from storage.errors import StorageError
from storage.queue.lanes import LanesRepository, lane_of
from storage.records import JobStatus, Lane
from storage.reports.ended_jobs import EndedJob, Place, ended_jobs
from storage.reports.statistics import LaneLoad, OpenJobs, Statistics

logger = logging.getLogger("photojobs.metrics")

#: A job is counted this long after its end. By then, the transaction that ended the job has committed.
SETTLED_SECONDS = 15.0

#: The largest number of ended jobs that a scrape reads; the next scrape continues after the last of them.
MAX_ENDED_PER_SCRAPE = 20_000

#: How many types of jobs have separate numbers. A type can be any text; further types count as `other`.
MAX_TYPES = 200

#: Upper bounds of the histograms in seconds; a job may process one photo, or run for an hour.
RUN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
WAIT_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400)


class QueueCollector(Collector):
    """Reads the numbers of a database; its counters begin at 0 when the collector is created."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Two scrapes can happen at the same time, and no ended job may be counted twice.
        self._lock = threading.Lock()
        self._place = Place(finished_at=database.clock() - timedelta(seconds=SETTLED_SECONDS))
        self._types: set[str] = set()
        #: The lanes and types whose numbers a scrape has shown.
        self._series: set[tuple[str, str]] = set()
        self._counted = CollectorRegistry()
        self._ends = Counter(
            "photojobs_jobs_ended",
            "Jobs that have ended, by their final status.",
            ("lane", "type", "status"),
            registry=self._counted,
        )
        self._run_seconds = Histogram(
            "photojobs_job_run_seconds",
            "Seconds from the last start of a job to its end.",
            ("lane", "type"),
            buckets=RUN_BUCKETS,
            registry=self._counted,
        )
        self._wait_seconds = Histogram(
            "photojobs_job_wait_seconds",
            "Seconds from the creation of a job to its last start.",
            ("lane",),
            buckets=WAIT_BUCKETS,
            registry=self._counted,
        )

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values, because a registration must not read the database."""
        yield from self._families((), {}, 0, 0.0)
        yield from self._counted.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the current numbers.

        If the database is down, yield only `photojobs_database_up` with the value 0, and the counters as they were at
        the last scrape.
        """
        with self._lock:
            try:
                now = self._database.clock()
                with self._database.connect() as connection:
                    statistics = Statistics(connection)
                    loads = statistics.lanes()
                    by_type = statistics.open_by_type(limit=MAX_TYPES)
                    delayed = statistics.count_delayed()
                    ended = ended_jobs(
                        connection,
                        after=self._place,
                        before=now - timedelta(seconds=SETTLED_SECONDS),
                        limit=MAX_ENDED_PER_SCRAPE,
                    )
                    lanes = LanesRepository(connection).list() if ended else ()
            except StorageError as error:
                logger.warning(
                    "the metrics could not be read from the database: %s The next scrape tries again.", error
                )
                yield _gauge("photojobs_database_up", "Whether the database answers.", 0)
            else:
                self._count(ended, lanes)
                yield from self._families(loads, by_type, delayed, now.timestamp())
            yield from self._counted.collect()

    def _count(self, ended: Sequence[EndedJob], lanes: Sequence[Lane]) -> None:
        counted = [
            (found.name if (found := lane_of(job.priority, lanes)) else "none", self._known(job.type), job)
            for job in ended
        ]
        new = {(lane, kind) for lane, kind, _ in counted} - self._series
        if new:
            # Prometheus sees an increase only if an earlier scrape has seen the number. So the numbers of a new lane or
            # type begin with 0, and the next scrape counts the jobs of this one.
            self._begin(new)
            return
        for lane, kind, job in counted:
            self._ends.labels(lane, kind, job.status).inc()
            if job.started_at is not None:
                # The clocks of two machines may differ slightly, so a difference may be negative.
                ran = max(0.0, (job.finished_at - job.started_at).total_seconds())
                self._run_seconds.labels(lane, kind).observe(ran)
                if job.created_at is not None:
                    waited = max(0.0, (job.started_at - job.created_at).total_seconds())
                    self._wait_seconds.labels(lane).observe(waited)
        if ended:
            self._place = ended[-1].place

    def _begin(self, series: set[tuple[str, str]]) -> None:
        for lane, kind in series:
            for status in filter(attrgetter("is_final"), JobStatus):
                self._ends.labels(lane, kind, status)
            self._run_seconds.labels(lane, kind)
            self._wait_seconds.labels(lane)
        self._series |= series

    def _known(self, kind: str) -> str:
        if kind not in self._types and len(self._types) >= MAX_TYPES:
            return "other"
        self._types.add(kind)
        return kind

    def _families(
        self, loads: Sequence[LaneLoad], by_type: dict[str, OpenJobs], delayed: int, now: float
    ) -> Iterator[Metric]:
        yield InfoMetricFamily("photojobs", "The version of photojobs.", {"version": version("photojobs")})
        yield _gauge("photojobs_database_up", "Whether the database answers.", 1)
        queued = GaugeMetricFamily("photojobs_jobs_queued", "Jobs that wait.", labels=("lane",))
        running = GaugeMetricFamily("photojobs_jobs_running", "Jobs that run: slots in use.", labels=("lane",))
        slots = GaugeMetricFamily(
            "photojobs_lane_slots", "Slots of a lane; a lane without a limit has no such metric.", labels=("lane",)
        )
        oldest = GaugeMetricFamily(
            "photojobs_oldest_waiting_seconds",
            "How long the oldest job that could run now has waited; 0 if no such job waits.",
            labels=("lane",),
        )
        for load in loads:
            queued.add_metric((load.name,), load.queued)
            running.add_metric((load.name,), load.running)
            if load.slots is not None:
                slots.add_metric((load.name,), load.slots)
            waited = 0.0 if load.oldest_waiting_at is None else max(0.0, now - load.oldest_waiting_at.timestamp())
            oldest.add_metric((load.name,), waited)
        yield from (queued, running, slots, oldest)
        yield _gauge("photojobs_jobs_delayed", "Queued jobs that must not start yet, including retries.", delayed)
        open_jobs = GaugeMetricFamily(
            "photojobs_jobs_open", "Jobs that wait or run, by type.", labels=("type", "status")
        )
        for kind, count in by_type.items():
            open_jobs.add_metric((kind, "queued"), count.queued)
            open_jobs.add_metric((kind, "running"), count.running)
        yield open_jobs


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)
