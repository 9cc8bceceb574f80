"""Changes indexes of `jobs`, so that claims find the best job quickly whatever PostgreSQL's statistics say.

On PostgreSQL, the indexes on the status are dropped. PostgreSQL would read the whole queue by one of them if the
statistics say that nothing is queued, which is normal after a queue was emptied. SQLite keeps these indexes, because
other programs rely on them, and our statements name the index that they use. `heartbeat_at` is removed from the
conditions of indexes, so that a heartbeat writes to no index.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

NEWEST = sa.text("created_at DESC")
BY_RANK = [sa.text("priority DESC"), "created_at", "id"]
DELAYED = "status = 'queued' AND run_after IS NOT NULL"
HELD = "status = 'queued' AND run_after IS NULL AND held_by IS NOT NULL"

DROPPED_ON_POSTGRESQL: dict[str, list[Any]] = {
    "idx_jobs_status": ["status"],
    "idx_jobs_tenant_created": ["tenant_id", NEWEST],
    "idx_jobs_tenant_status": ["tenant_id", "status"],
    "idx_jobs_status_priority_created": ["status", sa.text("priority DESC"), "created_at"],
    "idx_jobs_scope_status_created": ["scope", "status", NEWEST],
    "idx_jobs_tenant_scope_status_created": ["tenant_id", "scope", "status", NEWEST],
}


def upgrade() -> None:
    _replace("idx_jobs_attended", BY_RANK, "status = 'queued' AND worker_id IS NOT NULL")
    _replace("idx_jobs_delayed", ["run_after", "priority"], DELAYED)
    _create("idx_jobs_held", ["priority"], HELD)
    _create("idx_jobs_failed", [NEWEST], "status = 'failed'")
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("idx_jobs_tenant_created_status", "jobs", ["tenant_id", NEWEST, "status"])
        for name in DROPPED_ON_POSTGRESQL:
            op.drop_index(name, "jobs")
        # A page keeps space for the next version of a row. Without this space, a heartbeat writes to every index.
        op.execute("ALTER TABLE jobs SET (fillfactor = 90)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE jobs RESET (fillfactor)")
        for name, columns in DROPPED_ON_POSTGRESQL.items():
            op.create_index(name, "jobs", columns)
        op.drop_index("idx_jobs_tenant_created_status", "jobs")
    op.drop_index("idx_jobs_failed", "jobs")
    op.drop_index("idx_jobs_held", "jobs")
    _replace("idx_jobs_delayed", ["run_after"], DELAYED)
    _replace("idx_jobs_attended", BY_RANK, "status = 'queued' AND heartbeat_at IS NOT NULL")


def _replace(name: str, columns: list[Any], condition: str) -> None:
    op.drop_index(name, "jobs")
    _create(name, columns, condition)


def _create(name: str, columns: list[Any], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
