"""`photojobs jobs`: list jobs, look at one of them and its items, ask why it waits, and queue it again."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.cli.definitions import Json
from deployments.cli.errors import BadInput
from deployments.cli.job_cells import progress_of, took
from deployments.cli.opening import opened_database
from deployments.cli.terminal import confirm, output, print_fields, print_json, print_table, remark, say, shown
from deployments.queue_figures import item_counts, list_items, list_jobs
from storage.bulk import JobFilter, retry_jobs
from storage.database import Database
from storage.errors import UnknownJob
from storage.jobs import JobsRepository
from storage.records import Job
from storage.settings import Settings
from storage.waiting_reasons import explain_job

#: Characters of an error that a listing shows; `jobs show` has them all.
SHOWN_CHARACTERS = 120

app = App(name="jobs")

JobStatusName = Literal["queued", "running", "completed", "failed", "canceled"]
ItemStatusName = Literal["pending", "running", "done", "failed", "skipped"]
Limit = Annotated[int, Parameter(validator=Number(gte=1))]


@app.command(name="list")
def list_all(
    *,
    status: JobStatusName | None = None,
    type: str | None = None,
    tenant: str | None = None,
    project: int | None = None,
    task: str | None = None,
    limit: Limit = 50,
    offset: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    json: Json = False,
) -> None:
    """List jobs, the newest first.

    Parameters
    ----------
    status
        Only jobs in this status.
    type
        Only jobs of this step type.
    tenant
        Only jobs of this tenant.
    project
        Only jobs of the project of this id.
    task
        Only jobs of the task of this id.
    limit
        How many, at most.
    offset
        How many to leave out from the newest on.
    """
    filters = {"status": status, "type": type, "tenant_id": tenant, "project_id": project, "task_id": task}
    with opened_database() as database:
        found = list_jobs(database, filters, limit=limit, offset=offset)
        if json:
            print_json(found)
            return
        counts = item_counts(database, [job.id for job in found])
    if not found:
        remark("No jobs." if not any(filters.values()) else "No such jobs.")
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
            _beginning(job.error_message),
        )
        for job in found
    ]
    print_table(
        ("id", "type", "status", "priority", "tenant", "project", "done", "failed", "created", "took", "error"),
        rows,
        numbers=("id", "priority", "project", "done", "failed", "took"),
    )


@app.command(name="show")
def show_job(id: int, /, *, tenant: str | None = None, json: Json = False) -> None:
    """Show a job with all that is known of it.

    Parameters
    ----------
    id
        The job's id, as `photojobs jobs list` shows it.
    tenant
        Whose job it must be; without it, any tenant's.
    """
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
            "attempts": f"{job.attempts} failed" + (f" of {job.max_attempts}" if job.max_attempts else ""),
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
            "did": job.result.get("counts"),
        }
    )
    if job.result.get("examples"):
        print_table(
            ("did", "first ones"),
            [(what, ", ".join(map(str, names))) for what, names in job.result["examples"].items()],
        )


@app.command(name="items")
def show_items(
    id: int,
    /,
    *,
    status: ItemStatusName | None = None,
    limit: Limit = 1000,
    tenant: str | None = None,
    json: Json = False,
) -> None:
    """List the items of a job.

    Parameters
    ----------
    id
        The job's id.
    status
        Only items in this status.
    limit
        How many, at most.
    tenant
        Whose job it must be; without it, any tenant's.
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
def explain(id: int, /, *, tenant: str | None = None, json: Json = False) -> None:
    """Say why a job is not claimed, or what became of it, and what to do.

    Parameters
    ----------
    id
        The job's id, as `photojobs jobs list` shows it.
    tenant
        Whose job it must be; without it, any tenant's.
    """
    from flows.step import why_not_run

    settings = Settings.load()
    with opened_database(settings=settings) as database:
        _job(database, id, tenant)
        explained = explain_job(database, id, stale_seconds=settings.stale_seconds, why_not_run=why_not_run)
    verdict = explained.decisive
    if json:
        print_json({"job": explained.job, "verdict": verdict, "reasons": explained.reasons})
        return
    job = explained.job
    say(f"job {job.id} ({shown(job.type)}) of tenant {shown(job.tenant_id)} is {job.status}: {verdict.says}")
    if verdict.remedy:
        say(f"what to do: {verdict.remedy}")
    others = [reason for reason in explained.reasons if reason is not verdict]
    if others:
        output().print()
        print_table(
            ("looked at", "", "found"),
            [(reason.name, reason.standing, f"{reason.says} {reason.remedy}".strip()) for reason in others],
        )


@app.command(name="retry")
def retry(*ids: int, tenant: str | None = None, json: Json = False) -> None:
    """Queue failed or canceled jobs again, with all their attempts anew; items that are done stay done.

    Parameters
    ----------
    ids
        The jobs' ids.
    tenant
        Whose jobs they must be; without it, any tenant's.
    """
    if not ids:
        raise BadInput("jobs retry: which jobs? Give their ids.")
    with opened_database() as database:
        for job_id in ids:
            job = _job(database, job_id, tenant)
            if job.status not in ("failed", "canceled"):
                raise BadInput(f"job {job_id} is {job.status}: only a failed or canceled job can be run again.")
        count = retry_jobs(database, JobFilter(ids=ids))
    if json:
        print_json({"queued": ids})
        return
    confirm(f"{count} {'job is' if count == 1 else 'jobs are'} queued again; `photojobs up` or a worker runs them")


def _job(database: Database, job_id: int, tenant: str | None) -> Job:
    job = JobsRepository(database).get_by_id(job_id)
    if job is None or tenant not in (None, job.tenant_id):
        raise UnknownJob(f"job {job_id} does not exist. `photojobs jobs list` shows the latest ones.")
    return job


def _beginning(message: str | None) -> str | None:
    line = next(iter((message or "").splitlines()), "")
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"
