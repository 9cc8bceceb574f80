"""All tables for SQLAlchemy Core. The migrations create them.

The comments explain each table and column for people who write SQL; the reference page of the tables shows them.

Other programs use the first block of columns in `projects`, `photos`, `jobs` and `job_items`. Every column that
photojobs added is nullable or has a default, so that those programs can insert rows without it.
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

#: The index that keeps folder names unique among the projects of a tenant.
TENANT_FOLDER_INDEX = "uq_projects_tenant_folder"

projects = Table(
    "projects",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The project's number; the manifest in its folder has it too."),
    Column(
        "project_folder",
        Text,
        nullable=False,
        comment="The folder's name in the tenant's folder, unique within the tenant; in an SQLite file"
        " of another program, unique among all tenants.",
    ),
    Column("project_name", Text, nullable=False, comment="The name for people."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When it was last changed."),
    Column("schema_version", Text, comment="Kept for other programs."),
    Column("status", Text, comment="NULL if the project is active, `canceled` if it is archived."),
    Column("archived_at", UtcTimestamp, comment="When the project was archived."),
    Column(
        "manifest_version",
        Text,
        server_default=text("'1.0'"),
        comment="The format version of the manifest in the folder.",
    ),
    # Added by photojobs:
    Column("tenant_id", Text, comment="The tenant that the project belongs to; NULL is the default tenant, `user_0`."),
    Index("idx_projects_status", "status"),
    Index("idx_projects_folder", "project_folder"),
    # In the SQLite files of other programs, `project_folder` itself is unique instead.
    Index(TENANT_FOLDER_INDEX, text(f"coalesce(tenant_id, '{DEFAULT_TENANT}')"), "project_folder", unique=True),
    sqlite_autoincrement=True,
    comment="A project: a folder of the library with its photos.",
)

photos = Table(
    "photos",
    metadata,
    Column(
        "id",
        Identifier,
        primary_key=True,
        comment="The photo's number; `job_items.photo_id` and `task_items.photo_id` name it.",
    ),
    Column(
        "project_id",
        Identifier,
        ForeignKey("projects.id", ondelete="CASCADE"),
        nullable=False,
        comment="The project whose folder has its files.",
    ),
    Column("manifest_id", Text, unique=True, comment="A unique id that other programs use."),
    Column("filename", Text, nullable=False, comment="The base name of its files, without extension."),
    Column("basename", Text, comment="The base name as other programs wrote it."),
    Column("ext", Text, comment="The extension of the photo's first file."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When it was last changed."),
    Column("date_time_original", Text, comment="When the photo was taken, from its metadata, as text."),
    Column(
        "jpg_available",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 if a JPEG is in the folder, else 0.",
    ),
    Column(
        "raw_available",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 if a RAW file is in the folder, else 0.",
    ),
    Column(
        "other_available",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 if a file of another accepted kind is in the folder, else 0.",
    ),
    Column(
        "keep_jpg",
        Integer,
        nullable=False,
        server_default=text("1"),
        comment="0 if the next file_removal is to remove the JPEG, else 1.",
    ),
    Column(
        "keep_raw",
        Integer,
        nullable=False,
        server_default=text("1"),
        comment="0 if the next file_removal is to remove the RAW file, else 1.",
    ),
    Column(
        "thumbnail_status",
        Text,
        comment="The state of the thumbnail: NULL, pending, generated, failed, missing or not_supported.",
    ),
    Column(
        "preview_status",
        Text,
        comment="The state of the preview: NULL, pending, generated, failed, missing or not_supported.",
    ),
    Column("orientation", Integer, comment="EXIF orientation, 1 to 8."),
    Column("meta_json", JsonDocument, comment="A JSON object: make, model, size, and values of other programs."),
    Column(
        "visibility",
        Text,
        nullable=False,
        server_default=text("'private'"),
        comment="For other programs; new photos are private.",
    ),
    Index("idx_photos_project_filename", "project_id", "filename"),
    Index("idx_photos_project_date", "project_id", "date_time_original"),
    Index("idx_photos_date", text("date_time_original DESC"), text("created_at DESC"), text("id DESC")),
    sqlite_autoincrement=True,
    comment="A photo: a base name with one or more files in a project's folder.",
)

tags = Table(
    "tags",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The tag's number."),
    Column(
        "project_id",
        Identifier,
        ForeignKey("projects.id", ondelete="CASCADE"),
        nullable=False,
        comment="The project whose tag it is.",
    ),
    Column("name", Text, nullable=False, comment="Its name, unique in the project."),
    UniqueConstraint("project_id", "name"),
    comment="A tag of a project.",
)

photo_tags = Table(
    "photo_tags",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False, comment="The photo."),
    Column(
        "tag_id",
        Identifier,
        ForeignKey("tags.id", ondelete="CASCADE"),
        nullable=False,
        comment="The tag, one of the photo's project.",
    ),
    PrimaryKeyConstraint("photo_id", "tag_id"),
    Index("idx_photo_tags_tag", "tag_id"),
    comment="A tag on a photo.",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The job's number."),
    Column("tenant_id", Text, nullable=False, comment="The tenant that the job works for."),
    Column(
        "project_id",
        Identifier,
        ForeignKey("projects.id", ondelete="SET NULL"),
        comment="The project of the job, or NULL.",
    ),
    Column("type", Text, nullable=False, comment="The step type, which determines the handler."),
    Column(
        "status",
        Text,
        nullable=False,
        comment="queued, running, completed, failed or canceled; the last three are final.",
    ),
    Column("created_at", UtcTimestamp, nullable=False, comment="When it was enqueued."),
    Column("started_at", UtcTimestamp, comment="When its latest attempt began."),
    Column("finished_at", UtcTimestamp, comment="When it ended."),
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
        comment="Why it failed, cut at 1000 characters; after a retry, why the previous attempt failed.",
    ),
    Column(
        "worker_id",
        Text,
        comment="The executor that runs it or, while it is queued, waits for it; each start of a process has a new id.",
    ),
    Column(
        "heartbeat_at",
        UtcTimestamp,
        comment="The last heartbeat of the executor that runs it or, while it is queued, waits for it.",
    ),
    Column(
        "priority",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="0 to 100; jobs from 90 up run in the lane `priority`.",
    ),
    Column("scope", Text, nullable=False, server_default=text("'project'"), comment="project, photo_set or global."),
    Column(
        "attempts",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="How many attempts failed or were lost and led to a retry.",
    ),
    Column("max_attempts", Integer, comment="How many attempts are allowed; NULL if the setting decides."),
    Column("last_error_at", UtcTimestamp, comment="When an attempt last failed."),
    Column("updated_at", UtcTimestamp, comment="When the row was last changed."),
    # Added by photojobs:
    Column("task_id", Text, comment="The task that it belongs to; NULL for a standalone job."),
    Column("task_type", Text, comment="The name of the task's definition."),
    Column(
        "step_index",
        Integer,
        comment="The position of its step, from 0; follow-up jobs have one more than the last step.",
    ),
    Column("chunk_index", Integer, comment="The number of the chunk within the step, from 0."),
    Column("total_chunks", Integer, comment="The number of chunks of the step."),
    Column("run_after", UtcTimestamp, comment="The job does not start before this time; NULL if it may start at once."),
    Column("claim_token", Text, comment="New with each claim; a write with an older token changes nothing."),
    Column("flow_run_id", Text, comment="The Prefect flow run that runs it."),
    Column("unique_key", Text, comment="At most one unfinished job of a tenant has a given key."),
    Column(
        "held_by",
        Text,
        comment="Why it does not start: `task`, `tenant` or `lane` for a hold, `steps` if it waits for"
        " the task's steps; else NULL.",
    ),
    Column(
        "result_json", JsonDocument, comment="The result: counts, first examples, counts for each project, and errors."
    ),
    Index("idx_jobs_project_created", "project_id", text("created_at DESC")),
    sqlite_autoincrement=True,
    comment="A job: one step of a task, one chunk of it, or a standalone piece of work.",
)
#: Other programs rely on these indexes. PostgreSQL does not have them: if its statistics say that nothing is queued, it
#: would use one of them to read the whole queue in search of the best job.
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

#: Jobs that can be claimed now. The partial indexes and the claims must use exactly this text.
READY = "status = 'queued' AND run_after IS NULL AND held_by IS NULL"
#: Queued jobs that become ready at a set time.
DELAYED = "status = 'queued' AND run_after IS NOT NULL"
#: Queued jobs that wait until a hold is released.
HELD = "status = 'queued' AND run_after IS NULL AND held_by IS NOT NULL"
#: Queued jobs that an executor waits for; its heartbeat covers them, as it covers running jobs. The condition names the
#: executor, not the heartbeat: if an index used the heartbeat, PostgreSQL would write to every index at each one.
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
    #: Counts by priority read the priority from this index and the next.
    _partial("idx_jobs_delayed", DELAYED, jobs.c.run_after, jobs.c.priority),
    _partial("idx_jobs_held", HELD, jobs.c.priority),
    _partial("idx_jobs_attended", ATTENDED, text("priority DESC"), jobs.c.created_at, jobs.c.id),
    _partial("idx_jobs_running", RUNNING, jobs.c.priority, jobs.c.tenant_id),
    _partial("idx_jobs_unique_key", UNFINISHED_UNIQUE, jobs.c.tenant_id, jobs.c.unique_key, unique=True),
    _partial("idx_jobs_task", "task_id IS NOT NULL", jobs.c.task_id, jobs.c.step_index, jobs.c.status),
    _partial("idx_jobs_finished", "finished_at IS NOT NULL", jobs.c.finished_at),
    _partial("idx_jobs_failed", FAILED, text("created_at DESC")),
    #: The status is last: directly after the tenant, it would make the planner expect few queued rows of the tenant.
    Index("idx_jobs_tenant_created_status", jobs.c.tenant_id, text("created_at DESC"), jobs.c.status).ddl_if(
        dialect="postgresql"
    ),
    #: Counts by type read this index alone.
    Index("idx_jobs_type_status", jobs.c.type, jobs.c.status),
)

job_items = Table(
    "job_items",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The item's number; items are processed in this order."),
    Column("tenant_id", Text, nullable=False, comment="The photo's tenant."),
    Column("job_id", Identifier, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, comment="The job."),
    Column(
        "photo_id",
        Identifier,
        ForeignKey("photos.id", ondelete="SET NULL"),
        comment="The photo; NULL if its row was removed, or if only a name was given.",
    ),
    Column("filename", Text, comment="The photo's name when the item was written, for people."),
    Column("status", Text, nullable=False, comment="pending, running, done, failed or skipped."),
    Column("message", Text, comment="Why it failed or was skipped."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When it was last changed."),
    # Added by photojobs:
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="How often the item was attempted."),
    Column("error_type", Text, comment="The name of the error's class."),
    Index("idx_job_items_job", "job_id"),
    Index("idx_job_items_tenant", "tenant_id"),
    sqlite_autoincrement=True,
    comment="A photo of a job, with its result.",
)
#: A project's photos are read in batches, in order of id; without this index each batch would sort all of them.
PHOTOS_PROJECT_INDEX = Index("idx_photos_project_id", photos.c.project_id, photos.c.id)
#: Removing a photo sets `photo_id` to NULL in its items; without this index each removal would scan the table.
JOB_ITEMS_PHOTO_INDEX = _partial("idx_job_items_photo", "photo_id IS NOT NULL", job_items.c.photo_id)

tasks = Table(
    "tasks",
    metadata,
    Column(
        "id", Text, primary_key=True, comment="The task's id; equal to the flow run's id if Prefect started the task."
    ),
    Column("tenant_id", Text, nullable=False, comment="The tenant that the task works for."),
    Column("type", Text, nullable=False, comment="The name of its definition."),
    Column("label", Text, nullable=False, comment="The definition's label, for people."),
    Column("scope", Text, nullable=False, comment="project, photo_set or global."),
    Column(
        "project_id",
        Identifier,
        ForeignKey("projects.id", ondelete="SET NULL"),
        comment="The project that it was started for, or NULL.",
    ),
    Column("status", Text, nullable=False, comment="queued, running, completed, failed or canceled."),
    Column(
        "source",
        Text,
        nullable=False,
        comment="The origin of the task: user, schedule, maintenance, or a text of the caller.",
    ),
    Column("priority", Integer, nullable=False, comment="The highest priority of its steps."),
    Column("step_index", Integer, nullable=False, comment="The current step, from 0."),
    Column(
        "item_count",
        Integer,
        comment="The number of photos that the task was started with; NULL if its steps find them.",
    ),
    Column(
        "definition_json",
        JsonDocument,
        nullable=False,
        comment="The definition at the task's start, with the unit of each step.",
    ),
    Column("payload_json", JsonDocument, comment="A JSON object that each of its jobs gets."),
    Column("flags_json", JsonDocument, comment="Flags that its steps set, for `run_if`."),
    Column("error_message", Text, comment="Why it failed, or was canceled."),
    Column("flow_run_id", Text, comment="The Prefect flow run that drives it."),
    Column("attended_at", UtcTimestamp, comment="When a process last followed the task."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When it was started."),
    Column("started_at", UtcTimestamp, comment="When its first job began."),
    Column("finished_at", UtcTimestamp, comment="When it ended."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When the row was last changed."),
    Column(
        "library_json",
        JsonDocument,
        comment="Figures of the library before the first job and after the last, for the report.",
    ),
    Index("idx_tasks_created", text("created_at DESC"), text("id DESC")),
    Index("idx_tasks_tenant_created", "tenant_id", text("created_at DESC")),
    Index("idx_tasks_type_status", "type", "status"),
    comment="A run of a definition.",
)
#: The condition of the sweep; it has the text of the partial index.
UNFINISHED_TASK = "tasks.status IN ('queued', 'running')"
TASK_ENGINE_INDEXES = (
    _partial("idx_tasks_unfinished", "status IN ('queued', 'running')", tasks.c.attended_at),
    _partial("idx_tasks_finished", "finished_at IS NOT NULL", tasks.c.finished_at),
)

task_items = Table(
    "task_items",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, comment="The task."),
    Column(
        "position", Integer, nullable=False, comment="The place in the order in which the photos were given, from 0."
    ),
    Column("photo_id", Identifier, comment="The photo."),
    Column("filename", Text, comment="The name that was given, or NULL."),
    PrimaryKeyConstraint("task_id", "position"),
    sqlite_with_rowid=False,
    comment="A photo that a task was started with; each step makes its chunks from these rows.",
)

task_projects = Table(
    "task_projects",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, comment="The task."),
    Column(
        "project_id", Identifier, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, comment="The project."
    ),
    PrimaryKeyConstraint("task_id", "project_id"),
    Index("idx_task_projects_project", "project_id"),
    sqlite_with_rowid=False,
    comment="A project that a task touches, noted at the task's start.",
)

lanes = Table(
    "lanes",
    metadata,
    Column("name", Text, primary_key=True, comment="priority or normal."),
    Column("min_priority", Integer, nullable=False, comment="The lowest priority of its jobs."),
    Column("max_priority", Integer, nullable=False, comment="The highest priority of its jobs."),
    Column(
        "slots",
        Integer,
        comment="How many jobs may run at the same time, in all processes together; NULL for no limit.",
    ),
    Column(
        "aging_seconds",
        Integer,
        comment="Each time that a job has waited this long, it ranks one priority higher; NULL turns this off.",
    ),
    Column(
        "fair_tenants",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 if, among jobs of equal priority, the tenant with the fewest running jobs comes first.",
    ),
    Column("updated_at", UtcTimestamp, comment="When it was last changed."),
    comment="A range of priorities with a number of slots.",
)

holds = Table(
    "holds",
    metadata,
    Column("kind", Text, nullable=False, comment="task, tenant or lane."),
    Column("name", Text, nullable=False, comment="The id of the task or tenant, or the name of the lane."),
    Column("reason", Text, comment="The reason that the user gave."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the hold began."),
    PrimaryKeyConstraint("kind", "name"),
    comment="A task, tenant or lane whose jobs do not start until it is released.",
)

project_claims = Table(
    "project_claims",
    metadata,
    Column(
        "project_id",
        Identifier,
        ForeignKey("projects.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The project.",
    ),
    Column(
        "job_id",
        Identifier,
        ForeignKey("jobs.id", ondelete="CASCADE"),
        nullable=False,
        comment="The job that changes it.",
    ),
    Column("claim_token", Text, nullable=False, comment="The job's claim."),
    Column(
        "claimed_at",
        UtcTimestamp,
        nullable=False,
        comment="When the claim was made; if the job no longer runs, the last time that its executor "
        "was known to work.",
    ),
    Index("idx_project_claims_job", "job_id"),
    comment="A project whose files a running job may change; no other job may at the same time.",
)

file_journal = Table(
    "file_journal",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The entry's number, in the order of the changes."),
    Column("tenant_id", Text, nullable=False, comment="The file's tenant."),
    Column("task_id", Text, comment="The task that made the change, or NULL."),
    Column("job_id", Identifier, comment="The job that made the change, or NULL."),
    Column("project_id", Identifier, comment="The project, even if its row was removed."),
    Column("photo_id", Identifier, comment="The photo, even if its row was removed."),
    Column(
        "action",
        Text,
        nullable=False,
        comment="The change: trashed, moved, followed, renamed, renamed_folder, followed_folder, "
        "removed, restored, added_row, changed_row, removed_row, wrote_manifest or "
        "archived_as_gone.",
    ),
    Column(
        "source",
        Text,
        nullable=False,
        comment="The file's or folder's path before the change, relative to the root of the library.",
    ),
    Column(
        "target",
        Text,
        comment="Its path after the change, relative to the root of the library; NULL if it was removed.",
    ),
    Column("size_bytes", BigInteger, comment="The file's size."),
    Column(
        "row_json",
        JsonDocument,
        comment="The row of the photo or project before the change. For a changed row: `before` and "
        "`after` with the columns that differ. For a manifest: its texts before and after.",
    ),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the change was made."),
    Column("undone_at", UtcTimestamp, comment="When the change was undone."),
    Index("idx_file_journal_task", "task_id", "id"),
    Index("idx_file_journal_project", "project_id", "id"),
    sqlite_autoincrement=True,
    comment="A change of an original file or folder, written with the row change that belongs to it.",
)

move_intents = Table(
    "move_intents",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The intent's number."),
    Column("group_id", Text, nullable=False, comment="The same for all files that move together or not at all."),
    Column("tenant_id", Text, nullable=False, comment="The file's tenant."),
    Column("job_id", Identifier, comment="The job that moves it."),
    Column(
        "project_id",
        Identifier,
        comment="The project whose folder the file leaves; NULL if the folder belongs to no project.",
    ),
    Column("target_project_id", Identifier, comment="The project whose folder the file moves to."),
    Column("photo_id", Identifier, comment="The photo that the file belongs to, or NULL."),
    Column("source", Text, nullable=False, comment="The file's path, relative to the root of the library."),
    Column("target", Text, nullable=False, comment="The file's new path, relative to the root of the library."),
    Column("size_bytes", BigInteger, nullable=False, comment="The file's size."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the intent was written."),
    Index("idx_move_intents_project", "project_id"),
    Index("idx_move_intents_target", "target_project_id"),
    sqlite_autoincrement=True,
    comment="A file that is about to be moved. The row is removed when the move is in the tables or was reverted.",
)

photo_derivatives = Table(
    "photo_derivatives",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False, comment="The photo."),
    Column("kind", Text, nullable=False, comment="thumbnail, preview or metadata."),
    Column("source_name", Text, nullable=False, comment="The original that it was made from, also if that failed."),
    Column(
        "source_hash",
        Text,
        comment="The content hash of that original at that time; NULL if the original never changed.",
    ),
    Column("width", Integer, comment="The width of the derivative in pixels."),
    Column("height", Integer, comment="The height of the derivative in pixels."),
    Column("size_bytes", BigInteger, comment="The size of the derivative's file."),
    Column("generated_at", UtcTimestamp, nullable=False, comment="When it was made."),
    PrimaryKeyConstraint("photo_id", "kind"),
    comment="A derivative of a photo or its metadata, with the file that it was made from.",
)

photo_originals = Table(
    "photo_originals",
    metadata,
    Column("photo_id", Identifier, ForeignKey("photos.id", ondelete="CASCADE"), nullable=False, comment="The photo."),
    Column("name", Text, nullable=False, comment="The file's name in the project's folder."),
    Column("kind", Text, nullable=False, comment="jpg, raw or other."),
    Column("size_bytes", BigInteger, comment="The file's size."),
    Column("mtime_ns", BigInteger, comment="When the contents were last modified, in nanoseconds since 1970."),
    Column(
        "ctime_ns",
        BigInteger,
        comment="When the contents or the inode last changed, in nanoseconds since 1970; NULL if unknown.",
    ),
    Column(
        "content_hash",
        Text,
        comment="A hash of the contents, as algorithm:hexadecimal; NULL if the file was never fully read.",
    ),
    Column("hashed_at", UtcTimestamp, comment="When that hash was first computed."),
    Column("verified_at", UtcTimestamp, comment="When the contents were last read and had that hash."),
    Column("missing_since", UtcTimestamp, comment="When the file was found missing; NULL if it exists."),
    Column(
        "checked_at",
        UtcTimestamp,
        comment="When the contents were last read, with any result, or could not be read; NULL if never.",
    ),
    Column(
        "corrupt_since",
        UtcTimestamp,
        comment="When different contents with the same size and times were first found; NULL if never.",
    ),
    Column("corrupt_hash", Text, comment="The hash of those different contents."),
    PrimaryKeyConstraint("photo_id", "name"),
    #: The originals that were read longest ago are verified next.
    Index("idx_photo_originals_checked", "checked_at", "photo_id", "name"),
    sqlite_with_rowid=False,
    comment="An image file of a photo, as it was when it was last checked.",
)
#: The search for the photo of a new file looks only at originals of the same size.
ORIGINALS_SIZE_INDEX = _partial("idx_photo_originals_size", "content_hash IS NOT NULL", photo_originals.c.size_bytes)
ORIGINALS_CORRUPT_INDEX = _partial(
    "idx_photo_originals_corrupt", "corrupt_since IS NOT NULL", photo_originals.c.photo_id, photo_originals.c.name
)
