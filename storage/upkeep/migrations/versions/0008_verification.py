"""Adds the results of verification: when each original was last read, and which originals became corrupt."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0008"
down_revision = "0007"

MOMENT = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")

CORRUPT = sa.text("corrupt_since IS NOT NULL")


def upgrade() -> None:
    op.add_column("photo_originals", sa.Column("checked_at", MOMENT))
    op.add_column("photo_originals", sa.Column("corrupt_since", MOMENT))
    op.add_column("photo_originals", sa.Column("corrupt_hash", sa.Text))
    op.execute("UPDATE photo_originals SET checked_at = verified_at WHERE verified_at IS NOT NULL")
    op.create_index("idx_photo_originals_checked", "photo_originals", ["checked_at", "photo_id", "name"])
    op.create_index(
        "idx_photo_originals_corrupt",
        "photo_originals",
        ["photo_id", "name"],
        sqlite_where=CORRUPT,
        postgresql_where=CORRUPT,
    )


def downgrade() -> None:
    op.drop_index("idx_photo_originals_corrupt", "photo_originals")
    op.drop_index("idx_photo_originals_checked", "photo_originals")
    for name in ("corrupt_hash", "corrupt_since", "checked_at"):
        op.drop_column("photo_originals", name)
