"""Declares all tables for SQLAlchemy Core. The migrations create the tables.

A new column belongs to the module of its table, to a new migration in `storage/upkeep/migrations/versions/`, and to the
record in `storage.records`. The tables of projects, photos and tags are in `library.py`.

The comments explain each table and column for people who write SQL. The reference page of the tables shows these
comments.

Other programs use the first block of columns in `projects`, `photos`, `jobs` and `job_items`. Every column that
photojobs added is nullable or has a default, so that those programs can insert rows without the column.
"""

from __future__ import annotations

# The reference page lists the tables in the order of these imports.
# isort: off
from storage.database.tables.schema import metadata
from storage.database.tables.library import (
    IS_PENDING_DELETION,
    TENANT_FOLDER_INDEX,
    photo_derivatives,
    photo_originals,
    photo_tags,
    photos,
    projects,
    tags,
)
from storage.database.tables.jobs import (
    WAITED_FOR,
    DELAYED,
    FAILED,
    HELD,
    READY,
    RUNNING,
    UNFINISHED_UNIQUE,
    job_items,
    jobs,
)
from storage.database.tables.tasks import UNFINISHED_TASK, task_items, task_projects, tasks
from storage.database.tables.queue import holds, lanes, project_claims
from storage.database.tables.changes import file_journal, move_intents
# isort: on

__all__ = [
    "DELAYED",
    "FAILED",
    "HELD",
    "IS_PENDING_DELETION",
    "READY",
    "RUNNING",
    "TENANT_FOLDER_INDEX",
    "UNFINISHED_TASK",
    "UNFINISHED_UNIQUE",
    "WAITED_FOR",
    "file_journal",
    "holds",
    "job_items",
    "jobs",
    "lanes",
    "metadata",
    "move_intents",
    "photo_derivatives",
    "photo_originals",
    "photo_tags",
    "photos",
    "project_claims",
    "projects",
    "tags",
    "task_items",
    "task_projects",
    "tasks",
]
