"""Adds the table of intended moves, which is used to revert moves that a crash interrupted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "move_intents",
        sa.Column("id", ID, primary_key=True),
        sa.Column("group_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("job_id", ID),
        sa.Column("project_id", ID),
        sa.Column("target_project_id", ID),
        sa.Column("photo_id", ID),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_move_intents_project", "move_intents", ["project_id"])
    op.create_index("idx_move_intents_target", "move_intents", ["target_project_id"])


def downgrade() -> None:
    op.drop_table("move_intents")
