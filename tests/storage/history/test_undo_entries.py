"""The entries that are undone together: a group is complete, wherever the pages of the journal end."""

from __future__ import annotations

import pytest

from storage import Database
from storage.history import undo_entries
from storage.history.journal import MOVED_TOGETHER, FileAction, FileChange, write_journal
from storage.history.undo_entries import iterate_groups


def _moved(photo_id: int | None, name: str, **row: str) -> FileChange:
    return FileChange(
        action=FileAction.MOVED,
        source=f"tenant/Iceland/{name}",
        target=f"tenant/Norway/{name}",
        project_id=1,
        photo_id=photo_id,
        row=row or None,
    )


def _row(action: FileAction, photo_id: int | None, source: str) -> FileChange:
    return FileChange(action=action, source=f"tenant/{source}", project_id=1, photo_id=photo_id, row={"before": {}})


def test_the_entries_of_a_photo_or_project_are_one_group_at_any_size_of_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = {MOVED_TOGETHER: "1"}
    # The last entry is that of a sidecar that came while other photos moved, so it is far from those of its photo.
    monkeypatch.setattr(undo_entries, "_REACH", 14)
    changes = [
        _row(FileAction.RENAMED_FOLDER, None, "Iceland"),
        _row(FileAction.CHANGED_ROW, None, "Iceland"),
        _moved(4, "4.jpg"),
        _row(FileAction.CHANGED_ROW, 4, "Iceland/4"),
        _moved(None, "wolf.jpg", **together),
        _moved(None, "wolf.jpg.xmp", **together),
        *(_moved(photo_id, f"{photo_id}.{end}") for photo_id in range(3) for end in ("jpg", "NEF", "xmp")),
        *(_row(FileAction.CHANGED_ROW, photo_id, f"Iceland/{photo_id}") for photo_id in range(3)),
        _row(FileAction.ADDED_ROW, 3, "Norway/Wolf"),
        _moved(4, "4.jpg.xmp"),
    ]
    with database.begin() as connection:
        write_journal(connection, changes, tenant_id="tenant", task_id="task", job_id=1, now=database.clock())

    for page_size in (1, 2, 3, 5, 100):
        monkeypatch.setattr(undo_entries, "PAGE_SIZE", page_size)
        pages = iterate_groups(database, task_id="task", is_image=lambda name: not name.endswith(".xmp"))
        groups = [group for page in pages for group in page]

        sizes = {(group.photo_id, group.is_of_project): len(group.entries) for group in groups}
        assert sizes == {(None, True): 2, (0, False): 4, (1, False): 4, (2, False): 4, (3, False): 3, (4, False): 3}
        assert len(groups) == len(sizes)
        assert all(group.ids == sorted(group.ids, reverse=True) for group in groups)
