"""The tables of tasks, and of the photos and projects that tasks were started with."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from storage.database.column_types import Identifier, JsonDocument, UtcTimestamp
from storage.database.tables.schema import metadata, partial_index, reference

#: The condition that a task has not ended, for example for `flows.execution.sweep`. It must mean the same as the
#: condition of the index `idx_tasks_unfinished`, so that the databases use this index.
UNFINISHED_TASK = "tasks.status IN ('queued', 'running')"

tasks = Table(
    "tasks",
    metadata,
    Column(
        "id", Text, primary_key=True, comment="The task's id; equal to the flow run's id if Prefect started the task."
    ),
    Column("tenant_id", Text, nullable=False, comment="The tenant that the task works for."),
    Column("type", Text, nullable=False, comment="The name of the task's definition."),
    Column("label", Text, nullable=False, comment="The definition's label, for people."),
    Column("scope", Text, nullable=False, comment="project, photo_set or global."),
    reference(
        "project_id", "projects", ondelete="SET NULL", comment="The project that the task was started for, or NULL."
    ),
    Column("status", Text, nullable=False, comment="queued, running, completed, failed or canceled."),
    Column(
        "source",
        Text,
        nullable=False,
        comment="The origin of the task: user, schedule, maintenance, or a text of the caller.",
    ),
    Column("priority", Integer, nullable=False, comment="The highest priority of the task's steps."),
    Column("step_index", Integer, nullable=False, comment="The current step, from 0."),
    Column(
        "item_count",
        Integer,
        comment="The number of photos that the task was started with; NULL if its steps find the photos.",
    ),
    Column(
        "definition_json",
        JsonDocument,
        nullable=False,
        comment="The definition at the task's start, with the unit of each step.",
    ),
    Column("payload_json", JsonDocument, comment="A JSON object that each job of the task gets."),
    Column("flags_json", JsonDocument, comment="Flags that steps of the task set, for `run_if`."),
    Column("error_message", Text, comment="Why the task failed, or was canceled."),
    Column("flow_run_id", Text, comment="The Prefect flow run that runs the task."),
    Column(
        "attended_at",
        UtcTimestamp,
        comment="When a process last recorded that it runs the task's jobs or waits for them.",
    ),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the task was started."),
    Column("started_at", UtcTimestamp, comment="When the first job of the task began."),
    Column("finished_at", UtcTimestamp, comment="When the task ended."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When the row was last changed."),
    Column(
        "library_json",
        JsonDocument,
        comment="Figures of the library before the first job and after the last, for the report.",
    ),
    Index("idx_tasks_created", text("created_at DESC"), text("id DESC")),
    Index("idx_tasks_tenant_created", "tenant_id", text("created_at DESC")),
    Index("idx_tasks_type_status", "type", "status"),
    partial_index("idx_tasks_unfinished", "status IN ('queued', 'running')", "attended_at"),
    partial_index("idx_tasks_finished", "finished_at IS NOT NULL", "finished_at"),
    comment="A run of a definition.",
)

task_items = Table(
    "task_items",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, comment="The task."),
    Column(
        "position", Integer, nullable=False, comment="The place in the order in which the photos were given, from 0."
    ),
    Column("photo_id", Identifier, comment="The photo."),
    Column("filename", Text, comment="The photo's name, if the caller gave a name; else NULL."),
    PrimaryKeyConstraint("task_id", "position"),
    sqlite_with_rowid=False,
    comment="A photo that a task was started with; each step makes its chunks from these rows.",
)

task_projects = Table(
    "task_projects",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, comment="The task."),
    reference("project_id", "projects", ondelete="CASCADE", comment="The project."),
    PrimaryKeyConstraint("task_id", "project_id"),
    Index("idx_task_projects_project", "project_id"),
    sqlite_with_rowid=False,
    comment="A project that a task works on, stored at the task's start.",
)
