"""Reads the rows that listings show: lanes with their load, projects with their photos, jobs and items.

Each command decides which columns a list has, such as `deployments.cli.commands.queue.jobs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import job_items, jobs, photos
from storage.lifecycle.job_listings import check_page, list_newest
from storage.photos.projects import ProjectsRepository
from storage.queue.holds import HoldsRepository
from storage.queue.lanes import LanesRepository
from storage.records import Job, JobItem, Project
from storage.reports.statistics import Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFigures:
    """A lane, and the numbers of its running and waiting jobs."""

    name: str
    min_priority: int
    max_priority: int
    slots: int | None
    running: int
    queued: int
    aging_seconds: int | None
    fair_tenants: bool
    is_held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFigures:
    """A project, and the numbers of its photos.

    Attributes:
        photos: the number of photos.
        without_derivatives: the number of photos whose thumbnail or preview is missing; formats that cannot have
            one do not count.
        failed: the number of photos whose thumbnail or preview failed.
    """

    project: Project
    photos: int
    without_derivatives: int
    failed: int


def lane_figures(source: Database | Connection) -> list[LaneFigures]:
    """Return every lane with the numbers of its jobs, the lane with the highest priorities first."""
    with Access(source).read() as connection:
        lanes = LanesRepository(connection).list()
        loads = {load.name: load for load in Statistics(connection).lanes()}
        held = {hold.name for hold in HoldsRepository(connection).list("lane")}
    return [
        LaneFigures(
            name=lane.name,
            min_priority=lane.min_priority,
            max_priority=lane.max_priority,
            slots=lane.slots,
            running=loads[lane.name].running,
            queued=loads[lane.name].queued,
            aging_seconds=lane.aging_seconds,
            fair_tenants=bool(lane.fair_tenants),
            is_held=lane.name in held,
        )
        for lane in lanes
    ]


def project_figures(database: Database, *, tenant_id: str | None, archived: bool) -> list[ProjectFigures]:
    """Return the archived or the active projects with the numbers of their photos, in the order of their ids.

    If `tenant_id` is None, the projects of all tenants are returned.
    """
    lacking = photos.c.thumbnail_status.is_(None) | photos.c.preview_status.is_(None)
    lacking |= photos.c.thumbnail_status.in_(("pending", "missing"))
    lacking |= photos.c.preview_status.in_(("pending", "missing"))
    failed = (photos.c.thumbnail_status == "failed") | (photos.c.preview_status == "failed")
    statement = select(
        photos.c.project_id,
        func.count(),
        func.sum(case((lacking, 1), else_=0)),
        func.sum(case((func.coalesce(failed, False), 1), else_=0)),
    ).group_by(photos.c.project_id)
    with database.connect() as connection:
        counted = {row[0]: tuple(row)[1:] for row in connection.execute(statement)}
        projects = ProjectsRepository(connection).list(tenant_id=tenant_id, archived=archived)
    return [
        ProjectFigures(project=project, photos=counts[0], without_derivatives=counts[1], failed=counts[2])
        for project in projects
        for counts in (counted.get(project.id, (0, 0, 0)),)
    ]


def list_jobs(database: Database, filters: Mapping[str, Any], *, limit: int, offset: int = 0) -> list[Job]:
    """Return jobs, the newest first; `filters` maps columns to wanted values, and a value of None filters nothing."""
    return list_newest(database.run, filters, limit=limit, offset=offset)


def list_items(database: Database, job_id: int, *, status: str | None, limit: int) -> list[JobItem]:
    """Return at most `limit` items of a job in the order of their ids; with `status`, only items in this status."""
    check_page(limit=limit)
    statement = select(job_items).where(job_items.c.job_id == job_id).order_by(job_items.c.id).limit(limit)
    if status is not None:
        statement = statement.where(job_items.c.status == status)
    with database.connect() as connection:
        return [JobItem.from_row(row) for row in connection.execute(statement).mappings()]


def item_counts(database: Database, job_ids: list[int]) -> dict[int, dict[str, int]]:
    """Return the number of items in each status, for each of these jobs that has items."""
    statement = (
        select(job_items.c.job_id, job_items.c.status, func.count())
        .where(among(job_items.c.job_id, job_ids))
        .group_by(job_items.c.job_id, job_items.c.status)
    )
    counts: dict[int, dict[str, int]] = {}
    with database.connect() as connection:
        for job_id, status, number in connection.execute(statement):
            counts.setdefault(job_id, {})[status] = number
    return counts


def failed_item_names(database: Database, task_ids: list[str]) -> frozenset[str]:
    """Return the names of the photos that failed in any job of these tasks."""
    statement = (
        select(job_items.c.filename)
        .join(jobs, jobs.c.id == job_items.c.job_id)
        .where(among(jobs.c.task_id, task_ids), job_items.c.status == "failed")
        .distinct()
    )
    with database.connect() as connection:
        return frozenset(name or "" for name in connection.execute(statement).scalars())
