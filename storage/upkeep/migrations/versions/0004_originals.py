"""Adds the table of originals, with the state of each file of a photo when it was last checked.

The table gets sizes and times of originals from `photo_derivatives`, so that no file must be read again. Change times
were not stored before, so the first change time that is found for a file is accepted.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.Text().with_variant(TIMESTAMP(timezone=True), "postgresql")

#: The algorithm of earlier hashes.
ALGORITHM = "blake2b-128:"

EXTENSION = "lower(substr(source_name, length(filename) + 2))"

# If a file has two derivatives, the younger derivative has the latest state of the file, so its values are used.
FILL = f"""INSERT INTO photo_originals
    (photo_id, name, kind, size_bytes, mtime_ns, content_hash, hashed_at)
    SELECT made.photo_id, source_name,
        CASE WHEN {EXTENSION} IN ('jpg', 'jpeg') THEN 'jpg'
            WHEN {EXTENSION} IN ('png', 'tif', 'tiff', 'webp', 'heic', 'heif', 'avif') THEN 'other' ELSE 'raw' END,
        source_size_bytes, source_mtime_ns, '{ALGORITHM}' || source_hash,
        CASE WHEN source_hash IS NOT NULL THEN generated_at END
    FROM photo_derivatives AS made JOIN photos ON photos.id = made.photo_id
    WHERE NOT EXISTS (SELECT 1 FROM photo_derivatives AS younger
        WHERE younger.photo_id = made.photo_id AND younger.source_name = made.source_name
        AND (younger.generated_at > made.generated_at
            OR (younger.generated_at = made.generated_at AND younger.kind > made.kind)))"""

NAME_ALGORITHM = f"""UPDATE photo_derivatives SET source_hash = '{ALGORITHM}' || source_hash
    WHERE source_hash IS NOT NULL"""

# A derivative without a matching original was made from an earlier state of the original, whose hash is unknown.
MARK_UNKNOWN = """UPDATE photo_derivatives SET source_hash = 'unknown' WHERE source_hash IS NULL AND NOT EXISTS (
    SELECT 1 FROM photo_originals AS original WHERE original.photo_id = photo_derivatives.photo_id
    AND original.name = source_name AND original.size_bytes = source_size_bytes
    AND original.mtime_ns = source_mtime_ns)"""

# Until this revision, metadata was read when the thumbnail was made, so the row of the metadata gets the values of the
# thumbnail.
ADD_METADATA = """INSERT INTO photo_derivatives
    (photo_id, kind, source_name, source_size_bytes, source_mtime_ns, source_hash, generated_at)
    SELECT photo_id, 'metadata', source_name, source_size_bytes, source_mtime_ns, source_hash, generated_at
    FROM photo_derivatives WHERE kind = 'thumbnail'"""

RESTORE_SOURCES = """UPDATE photo_derivatives SET
    source_size_bytes = coalesce((SELECT size_bytes FROM photo_originals AS original
        WHERE original.photo_id = photo_derivatives.photo_id AND original.name = source_name), 0),
    source_mtime_ns = coalesce((SELECT mtime_ns FROM photo_originals AS original
        WHERE original.photo_id = photo_derivatives.photo_id AND original.name = source_name
        AND coalesce(original.content_hash, '') = coalesce(source_hash, '')), 0),
    source_hash = CASE WHEN source_hash LIKE 'blake2b-128:%' THEN substr(source_hash, 13) END"""


def upgrade() -> None:
    op.create_table(
        "photo_originals",
        sa.Column("photo_id", ID, sa.ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("ctime_ns", sa.BigInteger),
        sa.Column("content_hash", sa.Text),
        sa.Column("hashed_at", MOMENT),
        sa.Column("verified_at", MOMENT),
        sa.Column("missing_since", MOMENT),
        sa.PrimaryKeyConstraint("photo_id", "name"),
        sqlite_with_rowid=False,
    )
    op.execute(FILL)
    hashed = sa.text("content_hash IS NOT NULL")
    op.create_index(
        "idx_photo_originals_size", "photo_originals", ["size_bytes"], sqlite_where=hashed, postgresql_where=hashed
    )
    op.execute(NAME_ALGORITHM)
    op.execute(MARK_UNKNOWN)
    op.execute(ADD_METADATA)
    if op.get_bind().dialect.name == "sqlite":
        _make_derivatives_anew()
    else:
        op.drop_column("photo_derivatives", "source_size_bytes")
        op.drop_column("photo_derivatives", "source_mtime_ns")


def _make_derivatives_anew() -> None:
    """Rebuild the table to drop two columns, because SQLite drops no column if a view in the file is broken."""
    kept = (
        sa.Column("photo_id", ID, sa.ForeignKey("photos.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("source_hash", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("generated_at", MOMENT, nullable=False),
    )
    names = ", ".join(column.name for column in kept)
    op.create_table("photo_derivatives_new", *kept, sa.PrimaryKeyConstraint("photo_id", "kind"))
    op.execute(f"INSERT INTO photo_derivatives_new ({names}) SELECT {names} FROM photo_derivatives")
    op.drop_table("photo_derivatives")
    op.rename_table("photo_derivatives_new", "photo_derivatives")


def downgrade() -> None:
    op.execute("DELETE FROM photo_derivatives WHERE kind = 'metadata'")
    for name in ("source_size_bytes", "source_mtime_ns"):
        op.add_column("photo_derivatives", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute(RESTORE_SOURCES)
    op.drop_table("photo_originals")
