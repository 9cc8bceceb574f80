"""The tables of changes of files: the journal of changes, and the intents of moves."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from storage.database.column_types import Identifier, JsonDocument, UtcTimestamp
from storage.database.tables.schema import metadata

file_journal = Table(
    "file_journal",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The entry's number, in the order of the changes."),
    Column("tenant_id", Text, nullable=False, comment="The file's tenant."),
    Column("task_id", Text, comment="The task that made the change, or NULL."),
    Column("job_id", Identifier, comment="The job that made the change, or NULL."),
    Column("project_id", Identifier, comment="The project, even if its row was removed."),
    Column("photo_id", Identifier, comment="The photo, even if its row was removed."),
    Column(
        "action",
        Text,
        nullable=False,
        comment="The change: trashed, moved, renamed, removed, restored (from the trash), renamed_folder, added_row, "
        "changed_row, removed_row or wrote_manifest; followed or followed_folder if a user had moved or renamed the "
        "file or folder; archived_as_gone if the project's folder was missing.",
    ),
    Column(
        "source",
        Text,
        nullable=False,
        comment="The file's or folder's path before the change, relative to the root of the library.",
    ),
    Column(
        "target",
        Text,
        comment="The path after the change, relative to the root of the library; NULL if the file was removed.",
    ),
    Column("size_bytes", BigInteger, comment="The file's size."),
    Column(
        "row_json",
        JsonDocument,
        comment="The row of the photo or project before the change. For a changed row: `before` and "
        "`after` with the columns that differ. For a manifest: its texts before and after.",
    ),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the change was made."),
    Column("undone_at", UtcTimestamp, comment="When the change was undone."),
    Index("idx_file_journal_task", "task_id", "id"),
    Index("idx_file_journal_project", "project_id", "id"),
    sqlite_autoincrement=True,
    comment="A change of an original file or folder, written with the row change that belongs to it.",
)

move_intents = Table(
    "move_intents",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The intent's number."),
    Column(
        "group_id",
        Text,
        nullable=False,
        comment="The id of a move; files with the same id move together or not at all.",
    ),
    Column("tenant_id", Text, nullable=False, comment="The file's tenant."),
    Column("job_id", Identifier, comment="The job that moves the file."),
    Column(
        "project_id",
        Identifier,
        comment="The project whose folder the file leaves; NULL if the folder belongs to no project.",
    ),
    Column("target_project_id", Identifier, comment="The project whose folder the file moves to."),
    Column("photo_id", Identifier, comment="The photo that the file belongs to, or NULL."),
    Column("source", Text, nullable=False, comment="The file's path, relative to the root of the library."),
    Column("target", Text, nullable=False, comment="The file's new path, relative to the root of the library."),
    Column("size_bytes", BigInteger, nullable=False, comment="The file's size."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the intent was written."),
    Index("idx_move_intents_project", "project_id"),
    Index("idx_move_intents_target", "target_project_id"),
    sqlite_autoincrement=True,
    comment="A file that a job is about to move. The row is removed when the other tables contain the move, or when the"
    " move was reverted.",
)
