"""The tables of jobs and their items."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text, text

from storage.database.column_types import Identifier, JsonDocument, UtcTimestamp
from storage.database.tables.schema import integer, metadata, partial_index, reference

#: Jobs that can be claimed now. The partial indexes and the claims must use exactly this text.
READY = "status = 'queued' AND run_after IS NULL AND held_by IS NULL"
#: Queued jobs with a delay; they become ready at the time `run_after`, if they are not held.
DELAYED = "status = 'queued' AND run_after IS NOT NULL"
#: Queued jobs without a delay that wait for the release of a hold, or for earlier steps of their task.
HELD = "status = 'queued' AND run_after IS NULL AND held_by IS NOT NULL"
#: Queued jobs for which an executor waits and writes heartbeats. The condition does not use the heartbeat, because
#: PostgreSQL would then write to every index at each heartbeat.
WAITED_FOR = "status = 'queued' AND worker_id IS NOT NULL"
RUNNING = "status = 'running'"
FAILED = "status = 'failed'"
UNFINISHED_UNIQUE = "unique_key IS NOT NULL AND status IN ('queued', 'running')"

jobs = Table(
    "jobs",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The job's number."),
    Column("tenant_id", Text, nullable=False, comment="The tenant that the job works for."),
    reference("project_id", "projects", ondelete="SET NULL", comment="The project of the job, or NULL."),
    Column("type", Text, nullable=False, comment="The step type, which determines the handler."),
    Column(
        "status",
        Text,
        nullable=False,
        comment="queued, running, completed, failed or canceled; the last three are final.",
    ),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the job was enqueued."),
    Column("started_at", UtcTimestamp, comment="When the latest attempt of the job began."),
    Column("finished_at", UtcTimestamp, comment="When the job ended."),
    Column(
        "progress_total",
        Integer,
        comment="The amount of work, in items or in the handler's own unit; NULL while unknown.",
    ),
    Column("progress_done", Integer, comment="The amount of work that is done, in the same unit."),
    Column(
        "payload_json",
        JsonDocument,
        comment="A JSON object for the handler. A job of a task also has task_id, task_type, source, "
        "chunk_index and total_chunks in it.",
    ),
    Column(
        "error_message",
        Text,
        comment="Why the job failed, cut at 1000 characters; after a retry, why the previous attempt failed.",
    ),
    Column(
        "worker_id",
        Text,
        comment="The executor that runs the job or, if the job is queued, waits for it. Each start of a process has a "
        "new id.",
    ),
    Column(
        "heartbeat_at",
        UtcTimestamp,
        comment="The last heartbeat of the executor that runs the job or, if the job is queued, waits for it.",
    ),
    integer("priority", default=0, comment="0 to 100; jobs from 90 up run in the lane `priority`."),
    Column("scope", Text, nullable=False, server_default=text("'project'"), comment="project, photo_set or global."),
    integer("attempts", default=0, comment="The number of attempts that failed or were lost, and led to a retry."),
    Column("max_attempts", Integer, comment="The maximum number of attempts; NULL if the setting decides."),
    Column("last_error_at", UtcTimestamp, comment="When an attempt last failed."),
    Column("updated_at", UtcTimestamp, comment="When the row was last changed."),
    # photojobs added the columns below.
    Column("task_id", Text, comment="The task that the job belongs to; NULL for a standalone job."),
    Column("task_type", Text, comment="The name of the task's definition."),
    Column(
        "step_index",
        Integer,
        comment="The position of the job's step, from 0; for a follow-up job, the number of steps.",
    ),
    Column("chunk_index", Integer, comment="The number of the chunk within the step, from 0."),
    Column("total_chunks", Integer, comment="The number of chunks of the step."),
    Column("run_after", UtcTimestamp, comment="The job does not start before this time; NULL if it may start at once."),
    Column("claim_token", Text, comment="A new text for each claim; a write with an older token changes nothing."),
    Column("flow_run_id", Text, comment="The Prefect flow run that runs the job."),
    Column("unique_key", Text, comment="At most one unfinished job of a tenant has a given key."),
    Column(
        "held_by",
        Text,
        comment="Why the job does not start: `task` or `tenant` if its task or tenant is on hold, `steps` if the job "
        "waits until its task has ended the earlier steps; else NULL.",
    ),
    Column(
        "result_json", JsonDocument, comment="The result: counts, first examples, counts for each project, and errors."
    ),
    Index("idx_jobs_project_created", "project_id", text("created_at DESC")),
    # Other programs rely on the next six indexes. Only SQLite has these six: PostgreSQL would read the whole queue by
    # one of them if its statistics said that nothing is queued.
    Index("idx_jobs_status", "status").ddl_if(dialect="sqlite"),
    Index("idx_jobs_tenant_created", "tenant_id", text("created_at DESC")).ddl_if(dialect="sqlite"),
    Index("idx_jobs_tenant_status", "tenant_id", "status").ddl_if(dialect="sqlite"),
    Index("idx_jobs_status_priority_created", "status", text("priority DESC"), "created_at").ddl_if(dialect="sqlite"),
    Index("idx_jobs_scope_status_created", "scope", "status", text("created_at DESC")).ddl_if(dialect="sqlite"),
    Index("idx_jobs_tenant_scope_status_created", "tenant_id", "scope", "status", text("created_at DESC")).ddl_if(
        dialect="sqlite"
    ),
    partial_index("idx_jobs_ready", READY, text("priority DESC"), "created_at", "id"),
    partial_index("idx_jobs_ready_tenant", READY, "tenant_id", text("priority DESC"), "created_at", "id"),
    # On PostgreSQL, the delayed jobs and the held jobs of each priority are counted in these two indexes alone.
    partial_index("idx_jobs_delayed", DELAYED, "run_after", "priority"),
    partial_index("idx_jobs_held", HELD, "priority"),
    partial_index("idx_jobs_attended", WAITED_FOR, text("priority DESC"), "created_at", "id"),
    partial_index("idx_jobs_running", RUNNING, "priority", "tenant_id"),
    partial_index("idx_jobs_unique_key", UNFINISHED_UNIQUE, "tenant_id", "unique_key", unique=True),
    partial_index("idx_jobs_task", "task_id IS NOT NULL", "task_id", "step_index", "status"),
    partial_index("idx_jobs_finished", "finished_at IS NOT NULL", "finished_at"),
    partial_index("idx_jobs_failed", FAILED, text("created_at DESC")),
    # The status is the last column. If it came directly after the tenant, the planner would expect few queued rows.
    Index("idx_jobs_tenant_created_status", "tenant_id", text("created_at DESC"), "status").ddl_if(
        dialect="postgresql"
    ),
    # Counts of jobs by type read only this index.
    Index("idx_jobs_type_status", "type", "status"),
    sqlite_autoincrement=True,
    comment="A job: one step of a task, one chunk of the step's items, or a standalone piece of work.",
)

job_items = Table(
    "job_items",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The item's number; items are processed in this order."),
    Column("tenant_id", Text, nullable=False, comment="The photo's tenant."),
    reference("job_id", "jobs", ondelete="CASCADE", comment="The job."),
    reference(
        "photo_id",
        "photos",
        ondelete="SET NULL",
        comment="The photo; NULL if its row was removed, or if only a name was given.",
    ),
    Column("filename", Text, comment="The photo's name when the item was written, for people."),
    Column("status", Text, nullable=False, comment="pending, running, done, failed or skipped."),
    Column("message", Text, comment="Why the item failed or was skipped."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When the row was last changed."),
    # photojobs added the columns below.
    integer("attempts", default=0, comment="How often the item was attempted."),
    Column("error_type", Text, comment="The name of the error's class."),
    Index("idx_job_items_job", "job_id"),
    Index("idx_job_items_tenant", "tenant_id"),
    # Removing a photo sets `photo_id` to NULL in its items. Without this index, each removal would scan the table.
    partial_index("idx_job_items_photo", "photo_id IS NOT NULL", "photo_id"),
    sqlite_autoincrement=True,
    comment="A photo of a job, with its result.",
)
