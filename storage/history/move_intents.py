"""The table `move_intents`: files that a job is about to move. Intents are durable before the first file moves.

After the moves, one transaction updates the rows and removes the intents. If a job finds an intent in a project that it
has claimed, a crash or power cut interrupted the move. `take_back` in `flows.handlers.announced_moves` then moves the
files back, so files always match their rows. This module only writes, reads and removes the intents.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select

from storage.batches import batched
from storage.database.tables import move_intents
from storage.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveIntent(Record):
    """A file that is about to be moved.

    Attributes:
        group_id: the id of a group of files that move together or not at all.
        project_id: the project whose folder the file leaves; None if the folder belongs to no project.
        target_project_id: the project whose folder the file moves to; None if the folder belongs to no project.
        source: the file's path, relative to the library's root.
        target: the file's new path, relative to the library's root.
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
    """Write intents. The transaction must have been begun by `Database.begin(durable=True)`."""
    if intents:
        connection.execute(insert(move_intents), [asdict(intent) for intent in intents])


def pending_intents(connection: Connection, project_ids: Collection[int]) -> list[MoveIntent]:
    """Return the intents of all groups that concern one of these projects, in the order in which they were written."""
    concerned = or_(move_intents.c.project_id.in_(project_ids), move_intents.c.target_project_id.in_(project_ids))
    groups = select(move_intents.c.group_id).where(concerned)
    statement = select(move_intents).where(move_intents.c.group_id.in_(groups)).order_by(move_intents.c.id)
    return [MoveIntent.from_row(row) for row in connection.execute(statement).mappings()]


def forget_intents(connection: Connection, group_ids: Sequence[str]) -> None:
    """Remove the intents of these groups. The files of each group must match their rows again."""
    for groups in batched(group_ids):
        connection.execute(delete(move_intents).where(move_intents.c.group_id.in_(groups)))
