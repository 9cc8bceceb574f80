"""Adds the figures of the library before and after a task, for the task's report."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

DOCUMENT = sa.Text().with_variant(JSONB, "postgresql")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("library_json", DOCUMENT))


def downgrade() -> None:
    op.drop_column("tasks", "library_json")
