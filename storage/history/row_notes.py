"""Records how a transaction changes rows of photos and projects, as entries for the journal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from storage.database.tables import tags
from storage.history.journal import FileAction, FileChange
from storage.history.row_snapshots import TAG_IDS, difference, snapshot_photos, snapshot_projects

#: The key in a photo's journal entry for the ids of tags that the change added to the photo's project.
NEW_TAGS = "new_tags"

#: Columns that are always read, because they identify the photo in the journal.
_NAMES = ("project_id", "filename")


class RowChangesNote:
    """Finds the rows that a transaction changes: reads rows when it is created and again in `take`, and compares them.

    Args:
        connection: the connection of the transaction.
        photo_ids: the photos that may change in the transaction.
        columns: the columns of photos that may change; None for all columns and the related rows.
        project_ids: the projects that may change in the transaction.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        photo_ids: Sequence[int] = (),
        columns: Sequence[str] | None = None,
        project_ids: Sequence[int] = (),
    ) -> None:
        self._connection = connection
        # Tags that the transaction adds get higher ids than the last tag has now, so `take` can recognize new tags.
        self._last_tag_id = _last_tag_id(connection) if photo_ids and columns is None else 0
        self._columns = None if columns is None else tuple(dict.fromkeys((*_NAMES, *columns)))
        self._photos = snapshot_photos(connection, photo_ids, columns=self._columns) if photo_ids else {}
        self._projects = snapshot_projects(connection, project_ids) if project_ids else {}

    def take(self, *, tenant_id: str, remarks: Mapping[int, Mapping[str, Any]]) -> Iterator[FileChange]:
        """Yield an entry for each changed row. The code that removes rows writes the entries of removed rows itself.

        `remarks` has further keys for the entries of photos, by photo id.
        """
        projects = snapshot_projects(self._connection, list(self._projects)) if self._projects else {}
        for project_id, before in self._projects.items():
            found = difference(before, projects[project_id]) if project_id in projects else None
            if found is not None:
                yield FileChange(
                    action=FileAction.CHANGED_ROW,
                    source=f"{tenant_id}/{before['project_folder']}",
                    project_id=project_id,
                    row={"before": found.before, "after": found.after},
                )
        if not self._photos:
            return
        photos = snapshot_photos(self._connection, list(self._photos), columns=self._columns)
        folders = snapshot_projects(self._connection, list({row["project_id"] for row in self._photos.values()}))
        for photo_id, before in self._photos.items():
            found = difference(before, photos[photo_id]) if photo_id in photos else None
            if found is not None:
                folder = folders[before["project_id"]]["project_folder"]
                new_tags = [tag_id for tag_id in found.after.get(TAG_IDS, ()) if tag_id > self._last_tag_id]
                yield FileChange(
                    action=FileAction.CHANGED_ROW,
                    source=f"{tenant_id}/{folder}/{before['filename']}",
                    project_id=before["project_id"],
                    photo_id=photo_id,
                    row={
                        "before": found.before,
                        "after": found.after,
                        **({NEW_TAGS: new_tags} if new_tags else {}),
                        **remarks.get(photo_id, {}),
                    },
                )


def _last_tag_id(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(tags.c.id), 0))).scalar_one())
