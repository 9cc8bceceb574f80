"""Makes the folder name of a project unique within its tenant, and no longer among all tenants.

In an SQLite file, folder names stay unique among all tenants if another program created `projects` or has tables in the
file. That program may rely on it.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.database.database_url import shown_url
from storage.errors import SchemaMismatch

revision = "0009"
down_revision = "0008"

INDEX = "uq_projects_tenant_folder"
#: The columns of the unique index: the tenant, of which NULL means the default tenant, and the folder.
UNIQUE_COLUMNS: list[Any] = [sa.text("coalesce(tenant_id, 'user_0')"), "project_folder"]

COLUMNS = (
    "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, project_folder TEXT NOT NULL, project_name TEXT NOT NULL, "
    "created_at TEXT NOT NULL, updated_at TEXT NOT NULL, schema_version TEXT, status TEXT, archived_at TEXT, "
    "manifest_version TEXT DEFAULT '1.0', tenant_id TEXT"
)
#: The SQL text of `projects` as the first revisions write it, apart from spaces.
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
            f"{shown_url(connection.engine.url)}: several tenants have project folders of the same name (number of "
            f"such names: {len(folders)}; the first: {folders[0]}). Nothing was changed. Older schemas allow each name "
            "once. Rename all but one folder of each name, and run folder_discovery."
        )
    op.drop_index(INDEX, "projects")
    if is_postgresql:
        op.create_unique_constraint("projects_project_folder_key", "projects", ["project_folder"])
    else:
        _rebuild(f"({COLUMNS}, UNIQUE (project_folder))")


def _is_ours() -> bool:
    """Return whether photojobs created the table, and the file has no tables of other programs."""
    connection = op.get_bind()
    text = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'projects'"))
    if re.sub(r"\s+", " ", str(text)).replace("( ", "(").replace(" )", ")").replace('"', "") != OURS_BEFORE:
        return False
    names = connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return all(name in OUR_TABLES or name.startswith("sqlite_") for name in names)


def _rebuild(definition: str) -> None:
    """Rebuild `projects`, as SQLite's documentation recommends, because SQLite cannot drop a constraint.

    The caller has switched foreign keys off, so that dropping the old table removes no rows of other tables.
    """
    names = "id, project_folder, project_name, created_at, updated_at, schema_version, status, archived_at, "
    names += "manifest_version, tenant_id"
    connection = op.get_bind()
    last_id = connection.scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'projects'"))
    kept = "SELECT sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND tbl_name = 'projects' AND sql > ''"
    objects = list(connection.scalars(sa.text(kept)))
    op.execute(f"CREATE TABLE photojobs_new_projects {definition}")
    op.execute(f"INSERT INTO photojobs_new_projects ({names}) SELECT {names} FROM projects")
    op.execute("DROP TABLE projects")
    op.execute("ALTER TABLE photojobs_new_projects RENAME TO projects")
    for sql in objects:
        connection.exec_driver_sql(sql)
    # Ids of removed projects must not be used again.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'projects'")
    if last_id is not None:
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('projects', {int(last_id)})")
