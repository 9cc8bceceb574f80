"""The folder of a project is unique among those of its tenant, no longer among those of all.

An SQLite file in which another program made the table `projects`, or has tables of its own, keeps what that program
relies on: there it stays unique over all tenants.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.errors import SchemaMismatch

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEX = "uq_projects_tenant_folder"
#: A project without a tenant is that of the default tenant.
UNIQUE_COLUMNS: list[Any] = [sa.text("coalesce(tenant_id, 'user_0')"), "project_folder"]

COLUMNS = (
    "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, project_folder TEXT NOT NULL, project_name TEXT NOT NULL, "
    "created_at TEXT NOT NULL, updated_at TEXT NOT NULL, schema_version TEXT, status TEXT, archived_at TEXT, "
    "manifest_version TEXT DEFAULT '1.0', tenant_id TEXT"
)
#: To the letter, but for spaces, what the first revisions write.
OURS_BEFORE = f"CREATE TABLE projects ({COLUMNS}, UNIQUE (project_folder))"

OUR_TABLES = (
    *("alembic_version", "file_journal", "holds", "job_items", "jobs", "lanes", "move_intents", "photo_derivatives"),
    *("photo_originals", "photo_tags", "photos", "project_claims", "projects", "tags", "task_items", "task_projects"),
    "tasks",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("projects_project_folder_key", "projects")
    elif _is_ours():
        _rebuild(f"({COLUMNS})")
    else:
        return
    op.create_index(INDEX, "projects", UNIQUE_COLUMNS, unique=True)


def downgrade() -> None:
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    known = sa.text("SELECT 1 FROM sqlite_master WHERE name = :name")
    if not is_postgresql and connection.scalar(known, {"name": INDEX}) is None:
        return
    twice = "SELECT project_folder FROM projects GROUP BY project_folder HAVING count(*) > 1 ORDER BY 1"
    folders = list(connection.scalars(sa.text(twice)))
    if folders:
        raise SchemaMismatch(
            f"{len(folders)} folders have projects of several tenants, the first {folders[0]}: older schemas know one "
            "project of a folder. Rename all but one of each in the library, and run folder_discovery."
        )
    op.drop_index(INDEX, "projects")
    if is_postgresql:
        op.create_unique_constraint("projects_project_folder_key", "projects", ["project_folder"])
    else:
        _rebuild(f"({COLUMNS}, UNIQUE (project_folder))")


def _is_ours() -> bool:
    """Whether the table is as photojobs made it, in a file without tables of other programs."""
    connection = op.get_bind()
    text = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'projects'"))
    if re.sub(r"\s+", " ", str(text)).replace("( ", "(").replace(" )", ")").replace('"', "") != OURS_BEFORE:
        return False
    names = connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return all(name in OUR_TABLES or name.startswith("sqlite_") for name in names)


def _rebuild(definition: str) -> None:
    """Make `projects` anew, as SQLite's documentation advises: it drops no constraint.

    The caller has switched foreign keys off, so that no row of another table goes with the old one.
    """
    names = "id, project_folder, project_name, created_at, updated_at, schema_version, status, archived_at, "
    names += "manifest_version, tenant_id"
    connection = op.get_bind()
    last_id = connection.scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'projects'"))
    kept = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'projects'"
    triggers = list(connection.scalars(sa.text(kept)))
    op.execute(f"CREATE TABLE photojobs_new_projects {definition}")
    op.execute(f"INSERT INTO photojobs_new_projects ({names}) SELECT {names} FROM projects")
    op.execute("DROP TABLE projects")
    op.execute("ALTER TABLE photojobs_new_projects RENAME TO projects")
    op.create_index("idx_projects_status", "projects", ["status"])
    op.create_index("idx_projects_folder", "projects", ["project_folder"])
    for trigger in triggers:
        connection.exec_driver_sql(trigger)
    # Ids of removed projects are not given out again.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'projects'")
    if last_id is not None:
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('projects', {int(last_id)})")
