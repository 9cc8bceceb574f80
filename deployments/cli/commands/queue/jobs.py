"""`photojobs jobs`: list, show, explain, cancel and retry jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cyclopts import App, Parameter

from deployments.cli.options.errors import BadInput
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Count, JobId, JobTenant, Json, Offset, WholeNumber
from deployments.cli.output.job_cells import beginning, progress_of, took
from deployments.cli.output.terminal import (
    output,
    print_fields,
    print_json,
    print_outcome,
    print_table,
    remark,
    say,
    shown,
)
from deployments.status.listed_rows import item_counts, list_items, list_jobs
from storage.database.engine import Database
from storage.errors import UnknownJob
from storage.lifecycle.state_machine import RETRIED, UNFINISHED
from storage.photos.project_labels import read_reference
from storage.photos.projects import ProjectsRepository
from storage.queue.bulk import JobFilter, cancel_jobs, retry_jobs
from storage.queue.jobs import JobsRepository
from storage.queue.tasks import TasksRepository
from storage.records import Job
from storage.reports.waiting_reasons import explain_job
from storage.settings import Settings
from task_definitions.model import MAX_ITEMS_PER_JOB
from task_definitions.wording import listed, quantity, shortened, tally

app = App(name="jobs")

JobStatusName = Literal["queued", "running", "completed", "failed", "canceled"]
ItemStatusName = Literal["pending", "running", "done", "failed", "skipped"]

_NONE_MATCH = "No jobs match these options."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Options that select jobs."""

    status: JobStatusName | None = None
    "Only jobs in this status."

    type: str | None = None
    "Only jobs of this step type."

    tenant: str | None = None
    "Only jobs of this tenant."

    project: str | None = None
    "Only jobs of this project, by its name or id."

    task: str | None = None
    "Only jobs of this task, by its id or the first characters of its id."


@app.command(name="list")
def list_all(*, options: JobOptions | None = None, limit: Count = 50, offset: Offset = 0, json: Json = False) -> None:
    """List jobs, the newest first.

    Args:
        limit: How many jobs to list at most.
        offset: How many of the newest jobs to skip.
    """
    settings = Settings.load()
    with opened_database(settings=settings) as database:
        filters = _filters(database, options or JobOptions(), settings)
        found = list_jobs(database, filters, limit=limit, offset=offset)
        if json:
            print_json(found)
            return
        counts = item_counts(database, [job.id for job in found])
    if not found:
        remark(_NONE_MATCH if any(filters.values()) or offset else "There are no jobs.")
        return
    rows = [
        (
            job.id,
            job.type,
            job.status,
            job.priority,
            job.tenant_id,
            job.project_id,
            progress_of(job),
            counts.get(job.id, {}).get("failed"),
            job.created_at,
            took(job),
            beginning(job.error_message),
        )
        for job in found
    ]
    print_table(
        ("id", "type", "status", "priority", "tenant", "project", "done", "failed", "created", "took", "error"),
        rows,
        numbers=("id", "priority", "project", "done", "failed", "took"),
        spared=("priority", "tenant", "created", "project", "took", "failed"),
    )


@app.command(name="show")
def show_job(id: JobId, /, *, tenant: JobTenant = None, json: Json = False) -> None:
    """Show all details of a job."""
    with opened_database() as database:
        job = _job(database, id, tenant)
        counts = item_counts(database, [id]).get(id, {})
    if json:
        print_json({"job": job, "items": counts})
        return
    print_fields(
        {
            "job": job.id,
            "type": job.type,
            "status": job.status,
            "error": job.error_message,
            "tenant": job.tenant_id,
            "project": job.project_id,
            "scope": job.scope,
            "priority": job.priority,
            "task": job.task_id,
            "definition": job.task_type,
            "step": job.step_index,
            "chunk": None if job.chunk_index is None else f"{job.chunk_index + 1} of {job.total_chunks}",
            "progress": progress_of(job) or None,
            "items": ", ".join(f"{number} {status}" for status, number in counts.items()) or None,
            "retries": f"{job.attempts}" + (f" (of {job.max_attempts - 1})" if job.max_attempts else ""),
            "created": job.created_at,
            "started": job.started_at,
            "finished": job.finished_at,
            "took": took(job) or None,
            "not before": job.run_after,
            "held by": job.held_by,
            "worker": job.worker_id,
            "heartbeat": job.heartbeat_at,
            "flow run": job.flow_run_id,
            "payload": job.payload_json or None,
            "did": tally(job.report.get("counts", {})) or None,
        }
    )
    examples = job.report.get("examples")
    if examples:
        say("")
        print_table(
            ("did", "first names"),
            [(what, "; ".join(str(name).rstrip(".") for name in names)) for what, names in examples.items()],
        )


@app.command(name="items")
def show_items(
    id: JobId,
    /,
    *,
    status: ItemStatusName | None = None,
    limit: Count = MAX_ITEMS_PER_JOB,
    tenant: JobTenant = None,
    json: Json = False,
) -> None:
    """List the items of a job: its photos, each with its status.

    Args:
        status: Only items in this status.
        limit: How many items to list at most.
    """
    with opened_database() as database:
        _job(database, id, tenant)
        found = list_items(database, id, status=status, limit=limit)
    if json:
        print_json(found)
        return
    if not found:
        remark(f"Job {id} has no items." if status is None else f"Job {id} has no items that are {status}.")
        return
    rows = [(item.id, item.photo_id, item.filename, item.status, item.attempts, item.message) for item in found]
    print_table(("id", "photo", "name", "status", "attempts", "reason"), rows, numbers=("id", "photo", "attempts"))


@app.command(name="why")
def explain(id: JobId, /, *, tenant: JobTenant = None, json: Json = False) -> None:
    """Show why a job does not start, or how it ended, and what to do."""
    from flows.handlers.step import why_not_run

    settings = Settings.load()
    with opened_database(settings=settings) as database:
        _job(database, id, tenant)
        explained = explain_job(database, id, stale_seconds=settings.stale_seconds, why_not_run=why_not_run)
    verdict = explained.decisive
    if json:
        print_json({"job": explained.job, "verdict": verdict, "reasons": explained.reasons})
        return
    job = explained.job
    say(f"job {job.id} ({shown(job.type)}) of tenant {shown(job.tenant_id)}: {verdict.says}")
    if verdict.remedy:
        say(f"what to do: {verdict.remedy}")
    others = [reason for reason in explained.reasons if reason is not verdict]
    if others:
        output().print()
        print_table(
            ("checked", "", "found"),
            [(reason.name, reason.standing, f"{reason.says} {reason.remedy}".strip()) for reason in others],
        )


@app.command(name="retry")
def retry(*ids: WholeNumber, options: JobOptions | None = None, json: Json = False) -> None:
    """Queue failed or canceled jobs again, with the full number of attempts; finished items are not repeated.

    Args:
        ids: The jobs' ids; without them, all jobs that the options select.
    """
    count = _change("retry", retry_jobs, ids, options, statuses=RETRIED, does="run again")
    text = f"{_are(count)} queued again; `photojobs up` or a worker runs {'it' if count == 1 else 'them'}"
    print_outcome(text if count else _NONE_MATCH, {"queued": count}, json=json)


@app.command(name="cancel")
def cancel(*ids: WholeNumber, options: JobOptions | None = None, json: Json = False) -> None:
    """Cancel queued and running jobs; finished work is kept.

    Args:
        ids: The jobs' ids; without them, all jobs that the options select.
    """
    count = _change("cancel", cancel_jobs, ids, options, statuses=UNFINISHED, does="canceled")
    text = f"{_are(count)} canceled; running jobs stop before their next change"
    print_outcome(text if count else _NONE_MATCH, {"canceled": count}, json=json)


def _change(
    command: str,
    change: Callable[[Database, JobFilter], int],
    ids: tuple[int, ...],
    options: JobOptions | None,
    *,
    statuses: Sequence[str],
    does: str,
) -> int:
    options = options or JobOptions()
    if not ids and options == JobOptions():
        raise BadInput(f"jobs {command}: which jobs? Give their ids, or select jobs with --status, --type, --task, …")
    settings = Settings.load()
    with opened_database(settings=settings, upgrade=True) as database:
        for job_id in ids:
            job = _job(database, job_id, options.tenant)
            if job.status not in statuses:
                raise BadInput(
                    f"job {job_id} is {job.status}; only a job that is {listed(statuses)} can be {does}. "
                    "Leave out this id."
                )
        return change(database, JobFilter(ids=ids or None, **_filters(database, options, settings)))


def _filters(database: Database, options: JobOptions, settings: Settings) -> dict[str, Any]:
    """Return the value that each column must have; None for a column that may have any value."""
    task, tenant = options.task, options.tenant
    return {
        "status": options.status,
        "type": options.type,
        "tenant_id": tenant,
        "project_id": _project_id(database, options.project, tenant_id=tenant or settings.tenant),
        "task_id": None if task is None else TasksRepository(database).whole_id(task, tenant_id=tenant),
    }


def _are(count: int) -> str:
    return f"{quantity(count, 'job')} {'is' if count == 1 else 'are'}"


def _project_id(database: Database, reference: str | None, *, tenant_id: str) -> int | None:
    if reference is None:
        return None
    name, project_id = read_reference(reference)
    return project_id if name is None else ProjectsRepository(database).find(reference, tenant_id=tenant_id)


def _job(database: Database, job_id: int, tenant: str | None) -> Job:
    job = JobsRepository(database).get_by_id(job_id)
    if job is None or tenant not in (None, job.tenant_id):
        of_tenant = "" if tenant is None else f" of tenant {shortened(tenant)}"
        raise UnknownJob(f"job {job_id}{of_tenant} does not exist. `photojobs jobs list` lists the latest jobs.")
    return job
