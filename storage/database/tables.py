"""Every table as SQLAlchemy Core sees it. Migrations make them; `storage.database.column_meanings` explains columns.

The first block of columns in `projects`, `photos`, `jobs` and `job_items` is what other programs know and use; what
stands after `added` is nullable or has a default, so that those programs go on inserting rows without it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.database.column_types import Identifier, JsonDocument, UtcTimestamp
from storage.default_tenant import DEFAULT_TENANT

metadata = MetaData()

#: Keeps the folder of a project unique among those of its tenant.
TENANT_FOLDER_INDEX = "uq_projects_tenant_folder"

projects = Table(
    "projects",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("project_folder", Text, nullable=False),
    Column("project_name", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("schema_version", Text),
    Column("status", Text),
    Column("archived_at", UtcTimestamp),
    Column("manifest_version", Text, server_default=text("'1.0'")),
    # added
    Column("tenant_id", Text),
    Index("idx_projects_status", "status"),
    Index("idx_projects_folder", "project_folder"),
    # An SQLite file of another program has a unique `project_folder` instead.
    Index(TENANT_FOLDER_INDEX, text(f"coalesce(tenant_id, '{DEFAULT_TENANT}')"), "project_folder", unique=True),
    sqlite_autoincrement=True,
)

photos = Table(
    "photos",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("manifest_id", Text, unique=True),
    Column("filename", Text, nullable=False),
    Column("basename", Text),
    Column("ext", Text),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("date_time_original", Text),
    Column("jpg_available", Integer, nullable=False, server_default=text("0")),
    Column("raw_available", Integer, nullable=False, server_default=text("0")),
    Column("other_available", Integer, nullable=False, server_default=text("0")),
    Column("keep_jpg", Integer, nullable=False, server_default=text("1")),
    Column("keep_raw", Integer, nullable=False, server_default=text("1")),
    Column("thumbnail_status", Text),
    Column("preview_status", Text),
    Column("orientation", Integer),
    Column("meta_json", JsonDocument),
    Column("visibility", Text, nullable=False, server_default=text("'private'")),
    Index("idx_photos_project_filename", "project_id", "filename"),
    Index("idx_photos_project_date", "project_id", "date_time_original"),
    Index("idx_photos_date", text("date_time_original DESC"), text("created_at DESC"), text("id DESC")),
    sqlite_autoincrement=True,
)

tags = Table(
    "tags",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("project_id", "name"),
)

photo_tags = Table(
    "photo_tags",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
    Column("tag_id", Identifier, ForeignKey("tags.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("photo_id", "tag_id"),
    Index("idx_photo_tags_tag", "tag_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="SET NULL")),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("started_at", UtcTimestamp),
    Column("finished_at", UtcTimestamp),
    Column("progress_total", Integer),
    Column("progress_done", Integer),
    Column("payload_json", JsonDocument),
    Column("error_message", Text),
    Column("worker_id", Text),
    Column("heartbeat_at", UtcTimestamp),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("scope", Text, nullable=False, server_default=text("'project'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer),
    Column("last_error_at", UtcTimestamp),
    Column("updated_at", UtcTimestamp),
    # added
    Column("task_id", Text),
    Column("task_type", Text),
    Column("step_index", Integer),
    Column("chunk_index", Integer),
    Column("total_chunks", Integer),
    Column("run_after", UtcTimestamp),
    Column("claim_token", Text),
    Column("flow_run_id", Text),
    Column("unique_key", Text),
    Column("held_by", Text),
    Column("result_json", JsonDocument),
    Index("idx_jobs_project_created", "project_id", text("created_at DESC")),
    sqlite_autoincrement=True,
)
#: Other programs rely on them. PostgreSQL has none of them: where its statistics say that nothing is queued, it would
#: read the whole queue by one of these to find its head.
JOB_LEGACY_INDEXES = (
    Index("idx_jobs_status", jobs.c.status).ddl_if(dialect="sqlite"),
    Index("idx_jobs_tenant_created", jobs.c.tenant_id, text("created_at DESC")).ddl_if(dialect="sqlite"),
    Index("idx_jobs_tenant_status", jobs.c.tenant_id, jobs.c.status).ddl_if(dialect="sqlite"),
    Index("idx_jobs_status_priority_created", jobs.c.status, text("priority DESC"), jobs.c.created_at).ddl_if(
        dialect="sqlite"
    ),
    Index("idx_jobs_scope_status_created", jobs.c.scope, jobs.c.status, text("created_at DESC")).ddl_if(
        dialect="sqlite"
    ),
    Index(
        "idx_jobs_tenant_scope_status_created", jobs.c.tenant_id, jobs.c.scope, jobs.c.status, text("created_at DESC")
    ).ddl_if(dialect="sqlite"),
)

#: What may be claimed now: the partial indexes and the claims must say this in the very same words.
READY = "status = 'queued' AND run_after IS NULL AND held_by IS NULL"
#: What becomes ready later, by itself.
DELAYED = "status = 'queued' AND run_after IS NOT NULL"
#: Queued jobs that wait until a hold is released.
HELD = "status = 'queued' AND run_after IS NULL AND held_by IS NOT NULL"
#: Queued jobs that an executor waits for; its heartbeat covers them as well as running ones. The condition names the
#: executor, not the heartbeat: PostgreSQL writes to every index of a row when a column that an index names changes.
ATTENDED = "status = 'queued' AND worker_id IS NOT NULL"
RUNNING = "status = 'running'"
FAILED = "status = 'failed'"
UNFINISHED_UNIQUE = "unique_key IS NOT NULL AND status IN ('queued', 'running')"


def _partial(name: str, condition: str, *columns: object, unique: bool = False) -> Index:
    where = text(condition)
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)  # type: ignore[arg-type]


JOB_ENGINE_INDEXES = (
    _partial("idx_jobs_ready", READY, text("priority DESC"), jobs.c.created_at, jobs.c.id),
    _partial("idx_jobs_ready_tenant", READY, jobs.c.tenant_id, text("priority DESC"), jobs.c.created_at, jobs.c.id),
    #: The further columns are what counts by priority read.
    _partial("idx_jobs_delayed", DELAYED, jobs.c.run_after, jobs.c.priority),
    _partial("idx_jobs_held", HELD, jobs.c.priority),
    _partial("idx_jobs_attended", ATTENDED, text("priority DESC"), jobs.c.created_at, jobs.c.id),
    _partial("idx_jobs_running", RUNNING, jobs.c.priority, jobs.c.tenant_id),
    _partial("idx_jobs_unique_key", UNFINISHED_UNIQUE, jobs.c.tenant_id, jobs.c.unique_key, unique=True),
    _partial("idx_jobs_task", "task_id IS NOT NULL", jobs.c.task_id, jobs.c.step_index, jobs.c.status),
    _partial("idx_jobs_finished", "finished_at IS NOT NULL", jobs.c.finished_at),
    _partial("idx_jobs_failed", FAILED, text("created_at DESC")),
    #: The status comes last: behind the tenant, it would promise that few rows of the tenant are queued.
    Index("idx_jobs_tenant_created_status", jobs.c.tenant_id, text("created_at DESC"), jobs.c.status).ddl_if(
        dialect="postgresql"
    ),
    #: Counts by type are answered from it alone.
    Index("idx_jobs_type_status", jobs.c.type, jobs.c.status),
)

job_items = Table(
    "job_items",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("job_id", Identifier, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="SET NULL")),
    Column("filename", Text),
    Column("status", Text, nullable=False),
    Column("message", Text),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("updated_at", UtcTimestamp, nullable=False),
    # added
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error_type", Text),
    Index("idx_job_items_job", "job_id"),
    Index("idx_job_items_tenant", "tenant_id"),
    sqlite_autoincrement=True,
)
#: A project's photos are read in id order, a batch at a time; without it each batch would sort them all.
PHOTOS_PROJECT_INDEX = Index("idx_photos_project_id", photos.c.project_id, photos.c.id)
#: Removing a photo sets `photo_id` to NULL in its items; without this index each removal would scan the table.
JOB_ITEMS_PHOTO_INDEX = _partial("idx_job_items_photo", "photo_id IS NOT NULL", job_items.c.photo_id)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="SET NULL")),
    Column("status", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("step_index", Integer, nullable=False),
    Column("item_count", Integer),
    Column("definition_json", JsonDocument, nullable=False),
    Column("payload_json", JsonDocument),
    Column("flags_json", JsonDocument),
    Column("error_message", Text),
    Column("flow_run_id", Text),
    Column("attended_at", UtcTimestamp),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("started_at", UtcTimestamp),
    Column("finished_at", UtcTimestamp),
    Column("updated_at", UtcTimestamp, nullable=False),
    Column("library_json", JsonDocument),
    Index("idx_tasks_created", text("created_at DESC"), text("id DESC")),
    Index("idx_tasks_tenant_created", "tenant_id", text("created_at DESC")),
    Index("idx_tasks_type_status", "type", "status"),
)
#: The sweep's condition, in the words of the partial index.
UNFINISHED_TASK = "tasks.status IN ('queued', 'running')"
TASK_ENGINE_INDEXES = (
    _partial("idx_tasks_unfinished", "status IN ('queued', 'running')", tasks.c.attended_at),
    _partial("idx_tasks_finished", "finished_at IS NOT NULL", tasks.c.finished_at),
)

task_items = Table(
    "task_items",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("photo_id", Identifier),
    Column("filename", Text),
    PrimaryKeyConstraint("task_id", "position"),
    sqlite_with_rowid=False,
)

task_projects = Table(
    "task_projects",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("task_id", "project_id"),
    Index("idx_task_projects_project", "project_id"),
    sqlite_with_rowid=False,
)

lanes = Table(
    "lanes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("min_priority", Integer, nullable=False),
    Column("max_priority", Integer, nullable=False),
    Column("slots", Integer),
    Column("aging_seconds", Integer),
    Column("fair_tenants", Integer, nullable=False, server_default=text("0")),
    Column("updated_at", UtcTimestamp),
)

holds = Table(
    "holds",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", UtcTimestamp, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
)

project_claims = Table(
    "project_claims",
    metadata,
    Column("project_id", Identifier, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", Identifier, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("claim_token", Text, nullable=False),
    Column("claimed_at", UtcTimestamp, nullable=False),
    Index("idx_project_claims_job", "job_id"),
)

file_journal = Table(
    "file_journal",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("task_id", Text),
    Column("job_id", Identifier),
    Column("project_id", Identifier),
    Column("photo_id", Identifier),
    Column("action", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text),
    Column("size_bytes", BigInteger),
    Column("row_json", JsonDocument),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("undone_at", UtcTimestamp),
    Index("idx_file_journal_task", "task_id", "id"),
    Index("idx_file_journal_project", "project_id", "id"),
    sqlite_autoincrement=True,
)

move_intents = Table(
    "move_intents",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("group_id", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("job_id", Identifier),
    Column("project_id", Identifier),
    Column("target_project_id", Identifier),
    Column("photo_id", Identifier),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Index("idx_move_intents_project", "project_id"),
    Index("idx_move_intents_target", "target_project_id"),
    sqlite_autoincrement=True,
)

photo_derivatives = Table(
    "photo_derivatives",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("source_name", Text, nullable=False),
    Column("source_hash", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("size_bytes", BigInteger),
    Column("generated_at", UtcTimestamp, nullable=False),
    PrimaryKeyConstraint("photo_id", "kind"),
)

photo_originals = Table(
    "photo_originals",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("mtime_ns", BigInteger),
    Column("ctime_ns", BigInteger),
    Column("content_hash", Text),
    Column("hashed_at", UtcTimestamp),
    Column("verified_at", UtcTimestamp),
    Column("missing_since", UtcTimestamp),
    Column("checked_at", UtcTimestamp),
    Column("corrupt_since", UtcTimestamp),
    Column("corrupt_hash", Text),
    PrimaryKeyConstraint("photo_id", "name"),
    #: Those that were read longest ago are verified next.
    Index("idx_photo_originals_checked", "checked_at", "photo_id", "name"),
    sqlite_with_rowid=False,
)
#: A file that has come is looked for among those of its size.
ORIGINALS_SIZE_INDEX = _partial("idx_photo_originals_size", "content_hash IS NOT NULL", photo_originals.c.size_bytes)
ORIGINALS_CORRUPT_INDEX = _partial(
    "idx_photo_originals_corrupt", "corrupt_since IS NOT NULL", photo_originals.c.photo_id, photo_originals.c.name
)
