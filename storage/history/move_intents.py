"""Moves of files that are about to be made: on the disk of the database before the first file moves.

The transaction that writes what the moves mean for the rows also removes their intents. An intent that is still there
when a project is held again belongs to a move that a crash or a power cut interrupted, and is taken back. So the
files are where the rows say, whatever was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select

from storage.database.tables import move_intents
from storage.records import Record

#: Groups named by one statement.
_BATCH_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveIntent(Record):
    """A file that is about to get another place.

    Attributes:
        group_id: what files share that move together or not at all.
        tenant_id: whose file.
        job_id: the job that moves it.
        project_id: the project whose folder it is in; None for a folder that no project has.
        target_project_id: the project whose folder it goes to.
        photo_id: the photo that it belongs to, if any.
        source: where it is, relative to the library's root.
        target: where it goes, likewise.
        size_bytes: its size.
        created_at: when the intent was written.
    """

    group_id: str
    tenant_id: str
    job_id: int | None
    project_id: int | None
    target_project_id: int | None
    photo_id: int | None
    source: str
    target: str
    size_bytes: int
    created_at: datetime


def write_intents(connection: Connection, intents: Sequence[MoveIntent]) -> None:
    """Write intents, inside a transaction that is begun with `Database.begin(durable=True)`."""
    if intents:
        columns = [name for name in move_intents.c.keys() if name != "id"]  # noqa: SIM118 - columns, not a mapping.
        connection.execute(
            insert(move_intents), [{name: getattr(intent, name) for name in columns} for intent in intents]
        )


def pending_intents(connection: Connection, project_ids: Collection[int]) -> list[MoveIntent]:
    """The intents that concern one of these projects, in the order in which they were written."""
    concerned = or_(move_intents.c.project_id.in_(project_ids), move_intents.c.target_project_id.in_(project_ids))
    groups = select(move_intents.c.group_id).where(concerned)
    statement = select(move_intents).where(move_intents.c.group_id.in_(groups)).order_by(move_intents.c.id)
    return [MoveIntent.from_row(row) for row in connection.execute(statement).mappings()]


def forget_intents(connection: Connection, group_ids: Sequence[str]) -> None:
    """Remove the intents of groups whose files are where their rows say."""
    for start in range(0, len(group_ids), _BATCH_SIZE):
        groups = group_ids[start : start + _BATCH_SIZE]
        connection.execute(delete(move_intents).where(move_intents.c.group_id.in_(groups)))
