"""The schema of earlier programs: projects, photos, tags, jobs and their items."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")
DOCUMENT = sa.Text().with_variant(JSONB, "postgresql")


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_folder", sa.Text, nullable=False, unique=True),
        sa.Column("project_name", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("schema_version", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("archived_at", MOMENT),
        sa.Column("manifest_version", sa.Text, server_default=sa.text("'1.0'")),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_projects_status", "projects", ["status"])
    op.create_index("idx_projects_folder", "projects", ["project_folder"])
    op.create_table(
        "photos",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("manifest_id", sa.Text, unique=True),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("basename", sa.Text),
        sa.Column("ext", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("date_time_original", sa.Text),
        sa.Column("jpg_available", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("raw_available", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("other_available", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("keep_jpg", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("keep_raw", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("thumbnail_status", sa.Text),
        sa.Column("preview_status", sa.Text),
        sa.Column("orientation", sa.Integer),
        sa.Column("meta_json", DOCUMENT),
        sa.Column("visibility", sa.Text, nullable=False, server_default=sa.text("'private'")),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_photos_project_filename", "photos", ["project_id", "filename"])
    op.create_index("idx_photos_project_date", "photos", ["project_id", "date_time_original"])
    op.create_index(
        "idx_photos_date",
        "photos",
        [sa.text("date_time_original DESC"), sa.text("created_at DESC"), sa.text("id DESC")],
    )
    op.create_table(
        "tags",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_table(
        "photo_tags",
        sa.Column("photo_id", ID, sa.ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
        sa.Column("tag_id", ID, sa.ForeignKey("tags.id", ondelete="CASCADE"), nullable=False),
        sa.PrimaryKeyConstraint("photo_id", "tag_id"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("project_id", ID, sa.ForeignKey("projects.id", ondelete="SET NULL")),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("progress_total", sa.Integer),
        sa.Column("progress_done", sa.Integer),
        sa.Column("payload_json", DOCUMENT),
        sa.Column("error_message", sa.Text),
        sa.Column("worker_id", sa.Text),
        sa.Column("heartbeat_at", MOMENT),
        sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("scope", sa.Text, nullable=False, server_default=sa.text("'project'")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("last_error_at", MOMENT),
        sa.Column("updated_at", MOMENT),
        sqlite_autoincrement=True,
    )
    newest = sa.text("created_at DESC")
    op.create_index("idx_jobs_project_created", "jobs", ["project_id", newest])
    op.create_index("idx_jobs_status", "jobs", ["status"])
    op.create_index("idx_jobs_tenant_created", "jobs", ["tenant_id", newest])
    op.create_index("idx_jobs_tenant_status", "jobs", ["tenant_id", "status"])
    op.create_index("idx_jobs_status_priority_created", "jobs", ["status", sa.text("priority DESC"), "created_at"])
    op.create_index("idx_jobs_scope_status_created", "jobs", ["scope", "status", newest])
    op.create_index("idx_jobs_tenant_scope_status_created", "jobs", ["tenant_id", "scope", "status", newest])
    op.create_table(
        "job_items",
        sa.Column("id", ID, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("photo_id", ID, sa.ForeignKey("photos.id", ondelete="SET NULL")),
        sa.Column("filename", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_job_items_job", "job_items", ["job_id"])
    op.create_index("idx_job_items_tenant", "job_items", ["tenant_id"])


def downgrade() -> None:
    for table in ("job_items", "jobs", "photo_tags", "tags", "photos", "projects"):
        op.drop_table(table)
