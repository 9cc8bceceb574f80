"""Adds the columns, tables and indexes that the older schema lacks; earlier programs can ignore them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(JSONB, "postgresql")

READY = "status = 'queued' AND run_after IS NULL AND held_by IS NULL"
BY_RANK = [sa.text("priority DESC"), "created_at", "id"]

JOB_COLUMNS = (
    ("task_id", sa.Text),
    ("task_type", sa.Text),
    ("step_index", sa.Integer),
    ("chunk_index", sa.Integer),
    ("total_chunks", sa.Integer),
    ("run_after", MOMENT),
    ("claim_token", sa.Text),
    ("flow_run_id", sa.Text),
    ("unique_key", sa.Text),
    ("held_by", sa.Text),
    ("result_json", DOCUMENT),
)

# The name, condition and columns of each index, and whether it is unique.
JOB_INDEXES = (
    ("idx_jobs_ready", READY, BY_RANK, False),
    ("idx_jobs_ready_tenant", READY, ["tenant_id", *BY_RANK], False),
    ("idx_jobs_delayed", "status = 'queued' AND run_after IS NOT NULL", ["run_after"], False),
    ("idx_jobs_attended", "status = 'queued' AND heartbeat_at IS NOT NULL", BY_RANK, False),
    ("idx_jobs_running", "status = 'running'", ["priority", "tenant_id"], False),
    (
        "idx_jobs_unique_key",
        "unique_key IS NOT NULL AND status IN ('queued', 'running')",
        ["tenant_id", "unique_key"],
        True,
    ),
    ("idx_jobs_task", "task_id IS NOT NULL", ["task_id", "step_index", "status"], False),
    ("idx_jobs_finished", "finished_at IS NOT NULL", ["finished_at"], False),
)


def upgrade() -> None:
    op.add_column("projects", sa.Column("tenant_id", sa.Text))
    for name, type_ in JOB_COLUMNS:
        op.add_column("jobs", sa.Column(name, type_))
    op.add_column("job_items", sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("job_items", sa.Column("error_type", sa.Text))
    for name, condition, columns, unique in JOB_INDEXES:
        _create_partial_index(name, "jobs", columns, condition, unique=unique)
    _create_partial_index("idx_job_items_photo", "job_items", ["photo_id"], "photo_id IS NOT NULL")
    op.create_index("idx_photo_tags_tag", "photo_tags", ["tag_id"])
    op.create_index("idx_photos_project_id", "photos", ["project_id", "id"])
    op.create_index("idx_jobs_type_status", "jobs", ["type", "status"])
    _create_task_tables()
    _create_lane_tables()
    _create_file_tables()


def downgrade() -> None:
    for table in (
        "photo_derivatives",
        "file_journal",
        "project_claims",
        "holds",
        "lanes",
        "task_projects",
        "task_items",
        "tasks",
    ):
        op.drop_table(table)
    op.drop_index("idx_jobs_type_status", "jobs")
    op.drop_index("idx_photos_project_id", "photos")
    op.drop_index("idx_photo_tags_tag", "photo_tags")
    op.drop_index("idx_job_items_photo", "job_items")
    for name, *_ in JOB_INDEXES:
        op.drop_index(name, "jobs")
    op.drop_column("job_items", "error_type")
    op.drop_column("job_items", "attempts")
    for name, _ in reversed(JOB_COLUMNS):
        op.drop_column("jobs", name)
    op.drop_column("projects", "tenant_id")


def _create_task_tables() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="SET NULL")),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("step_index", sa.Integer, nullable=False),
        sa.Column("item_count", sa.Integer),
        sa.Column("definition_json", DOCUMENT, nullable=False),
        sa.Column("payload_json", DOCUMENT),
        sa.Column("flags_json", DOCUMENT),
        sa.Column("error_message", sa.Text),
        sa.Column("flow_run_id", sa.Text),
        sa.Column("attended_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    newest = sa.text("created_at DESC")
    op.create_index("idx_tasks_created", "tasks", [newest, sa.text("id DESC")])
    op.create_index("idx_tasks_tenant_created", "tasks", ["tenant_id", newest])
    op.create_index("idx_tasks_type_status", "tasks", ["type", "status"])
    _create_partial_index("idx_tasks_unfinished", "tasks", ["attended_at"], "status IN ('queued', 'running')")
    _create_partial_index("idx_tasks_finished", "tasks", ["finished_at"], "finished_at IS NOT NULL")
    op.create_table(
        "task_items",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("photo_id", ID),
        sa.Column("filename", sa.Text),
        sa.PrimaryKeyConstraint("task_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_projects",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "project_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("idx_task_projects_project", "task_projects", ["project_id"])


def _create_lane_tables() -> None:
    lanes = op.create_table(
        "lanes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("min_priority", sa.Integer, nullable=False),
        sa.Column("max_priority", sa.Integer, nullable=False),
        sa.Column("slots", sa.Integer),
        sa.Column("aging_seconds", sa.Integer),
        sa.Column("fair_tenants", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("updated_at", MOMENT),
    )
    op.bulk_insert(
        lanes,
        [
            {"name": "priority", "min_priority": 90, "max_priority": 2**31 - 1, "slots": 4},
            {"name": "normal", "min_priority": -(2**31), "max_priority": 89, "slots": 4},
        ],
    )
    op.create_table(
        "holds",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_table(
        "project_claims",
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("claim_token", sa.Text, nullable=False),
        sa.Column("claimed_at", MOMENT, nullable=False),
    )
    op.create_index("idx_project_claims_job", "project_claims", ["job_id"])


def _create_file_tables() -> None:
    op.create_table(
        "file_journal",
        sa.Column("id", ID, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("task_id", sa.Text),
        sa.Column("job_id", ID),
        sa.Column("project_id", ID),
        sa.Column("photo_id", ID),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("row_json", DOCUMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("undone_at", MOMENT),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_file_journal_task", "file_journal", ["task_id", "id"])
    op.create_index("idx_file_journal_project", "file_journal", ["project_id", "id"])
    op.create_table(
        "photo_derivatives",
        sa.Column("photo_id", ID, sa.ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("source_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("source_mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("source_hash", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("generated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("photo_id", "kind"),
    )


def _create_partial_index(
    name: str, table: str, columns: Sequence[Any], condition: str, *, unique: bool = False
) -> None:
    where = sa.text(condition)
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=where, postgresql_where=where)
