"""The tables that decide which jobs may run: lanes, holds, and the projects that running jobs have claimed."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text

from storage.database.column_types import UtcTimestamp
from storage.database.tables.schema import integer, metadata, reference

lanes = Table(
    "lanes",
    metadata,
    Column("name", Text, primary_key=True, comment="The name; a new database has the lanes `priority` and `normal`."),
    Column("min_priority", Integer, nullable=False, comment="The lowest priority of jobs in the lane."),
    Column("max_priority", Integer, nullable=False, comment="The highest priority of jobs in the lane."),
    Column(
        "slots",
        Integer,
        comment="The number of jobs that may run at the same time, in all processes together; NULL for no limit.",
    ),
    Column(
        "aging_seconds",
        Integer,
        comment="A waiting job gains one priority in the order of jobs after each period of this number of seconds;"
        " NULL for no aging.",
    ),
    integer(
        "fair_tenants",
        default=0,
        comment="1 if, among jobs of equal priority, the tenant with the fewest running jobs comes first.",
    ),
    Column("updated_at", UtcTimestamp, comment="When the row was last changed."),
    comment="A range of priorities with a number of slots.",
)

holds = Table(
    "holds",
    metadata,
    Column("kind", Text, nullable=False, comment="task, tenant or lane."),
    Column("name", Text, nullable=False, comment="The id of the task or tenant, or the name of the lane."),
    Column("reason", Text, comment="The reason that the user gave."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the hold began."),
    PrimaryKeyConstraint("kind", "name"),
    comment="A hold on a task, tenant or lane: its jobs do not start until the hold is released.",
)

project_claims = Table(
    "project_claims",
    metadata,
    reference("project_id", "projects", ondelete="CASCADE", primary_key=True, comment="The project."),
    reference("job_id", "jobs", ondelete="CASCADE", comment="The job that changes the project's files."),
    Column("claim_token", Text, nullable=False, comment="The claim token that the job had."),
    Column(
        "claimed_at",
        UtcTimestamp,
        nullable=False,
        comment="When the project was claimed; if the job no longer runs, the last time at which its executor "
        "was known to be alive.",
    ),
    Index("idx_project_claims_job", "job_id"),
    comment="A claim of a job on a project. No other job may change the project's files at the same time.",
)
