"""Undoes changes of projects, folders and manifests.

`storage.history.undo_entries` decides which entries of the journal belong together.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection

from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from flows.undoing.left_entries import report_left
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack, refuse_removal
from storage.database.clock import parse_timestamp
from storage.database.tables import projects
from storage.history.foreign_columns import added_values, changed_columns
from storage.history.foreign_rows import referring_tables
from storage.history.journal import FileAction, FileChange, JournalEntry, latest_by_target, mark_undone
from storage.history.project_states import add_project, change_project, is_in_use, remove_empty_project
from storage.history.row_snapshots import PHOTOS, TAG_IDS, TAGS, snapshot_project
from storage.history.undo_entries import EntryGroup, archived_as_gone_at
from storage.library.atomic_write import fsync_folder, write_atomically
from storage.library.errors import Collision, CrossesFileSystems, ManifestUnreadable, SourceMissing, UnsafePath
from storage.library.manifest import manifest_text, read_manifest
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.kinds import MANIFEST_NAME
from storage.library.paths import ProjectFolder
from storage.library.transfer import rename_folder_without_overwrite, sync_moves
from storage.library.trash import list_trash, move_to_trash
from task_definitions.wording import quantity

#: Largest difference between the times in a row and in the journal that still count as the same change.
_TOLERANCE: Final = timedelta(minutes=1)

#: The column with the name of a project's folder.
_FOLDER: Final = "project_folder"

#: The columns of a project that users change.
_CHOSEN: Final = frozenset({"project_name", _FOLDER, "status"})


class ProjectUndo:
    """Undoes one group of journal entries at a time. The caller must have claimed the projects of the group."""

    def __init__(self, ctx: StepContext, places: Places, *, removed: set[int], added: set[int]) -> None:
        """Prepare the undo of one task.

        `removed` has the ids of the projects whose folders the task removed. `added` has the ids of the projects whose
        rows the task added.
        """
        self._ctx = ctx
        self._places = places
        self._removed = removed
        self._added = added
        #: The entries of the first manifests of added projects. A project that is kept keeps its manifest.
        self._first_manifests: dict[int | None, list[JournalEntry]] = defaultdict(list)
        #: The job and the project of each change that could not be undone. The project's folder keeps its name.
        self._kept: set[tuple[int | None, int | None]] = set()

    def run(self, group: EntryGroup) -> None:
        """Undo a group.

        Raises:
            CannotComeBack: the group cannot be undone; rows and folders are unchanged.
        """
        entry = group.entries[0]
        if group.is_of_project:
            try:
                self._undo_project(group)
            except CannotComeBack:
                self._kept.add((entry.job_id, entry.project_id))
                is_added = any(one.action == FileAction.ADDED_ROW for one in group.entries)
                for manifest in self._first_manifests.pop(entry.project_id, ()) if is_added else ():
                    report_left(self._ctx, [manifest], "the project is kept, so its manifest is kept too")
                raise
        elif entry.action == FileAction.WROTE_MANIFEST:
            if (entry.job_id, entry.project_id) in self._kept:
                raise CannotComeBack("the project's folder keeps its name, so its manifest is kept too")
            if entry.project_id in self._added and (entry.row_json or {}).get("before") is None:
                self._first_manifests[entry.project_id].append(entry)
            else:
                self._undo_manifest(entry)
        elif entry.action == FileAction.RENAMED_FOLDER:
            self._undo_folder(entry)
        elif entry.action == FileAction.REMOVED:
            raise CannotComeBack("the file was permanently removed from the trash; restore it from a backup")
        else:
            raise CannotComeBack(f'this version cannot undo the change "{entry.action}"; upgrade photojobs')

    def _undo_project(self, group: EntryGroup) -> None:
        project_id = group.project_id
        assert project_id is not None  # noqa: S101 - the caller passes groups of projects only.
        if project_id in self._removed:
            raise CannotComeBack("the project's folder was permanently removed; restore it from a backup")
        ctx = self._ctx
        with ctx.read() as connection:
            row = snapshot_project(connection, project_id)
        if row is not None and self._places.project(project_id) is None:
            raise CannotComeBack("the project belongs to another tenant now, so it is kept as it is")
        values: dict[str, Any] = {}
        kept: set[str] = set()
        folder_entry: JournalEntry | None = None
        restored, is_removed = None, False
        added: dict[str, Any] = {}
        for entry in group.entries:
            said = entry.row_json if isinstance(entry.row_json, dict) else {}
            match FileAction(entry.action):
                case FileAction.RENAMED_FOLDER:
                    folder_entry = entry
                case FileAction.REMOVED_ROW:
                    restored = self._restored_project(said, row)
                case FileAction.ADDED_ROW:
                    is_removed = True
                    added = said.get("after") or {}
                case FileAction.CHANGED_ROW:
                    if row is None:
                        raise CannotComeBack("its row has been removed since, so its values cannot be restored")
                    self._change_back({**row, **values}, said, values, kept)
                case _:
                    continue
        self._check_folder_name(project_id, values.get(_FOLDER) or (restored or {}).get(_FOLDER))
        if is_removed and row is not None:
            self._refuse_removal({**row, **values}, added)
        for manifest in self._first_manifests.pop(project_id, ()) if is_removed else ():
            try:
                self._undo_manifest(manifest)
            except CannotComeBack as error:
                report_left(ctx, [manifest], str(error))
        changes: list[FileChange] = []
        if folder_entry is not None and values.get(_FOLDER) is not None:
            changes += self._rename_back(folder_entry, project_id)
        with ctx.transaction(durable=True, project_ids=[project_id]) as connection:
            changes += self._write(connection, project_id, row, values=values, restored=restored, is_removed=is_removed)
            ctx.journal(connection, changes)
            mark_undone(connection, group.ids, now=ctx.now())
        name = str((row or restored or {}).get("project_name", ""))
        if restored is not None:
            ctx.report.count("projects restored", example=name)
        elif row is not None and (is_removed or values):
            ctx.report.count("projects removed again" if is_removed else "projects changed back", example=name)
        for column in sorted(kept):
            ctx.report.count("values kept, because they were changed after the task", example=f"{name}: {column}")
        self._places.refresh()

    def _restored_project(self, said: Mapping[str, Any], row: Mapping[str, Any] | None) -> dict[str, Any]:
        if row is not None:
            raise CannotComeBack(f"its id now belongs to project {row['project_name']}, so its row cannot be restored")
        if not said:
            raise CannotComeBack("the journal has no copy of its row, so the row cannot be restored")
        if said.get(PHOTOS):
            raise CannotComeBack(
                f"its row and its {quantity(said[PHOTOS], 'photo')} were permanently removed; restore them from a "
                "backup"
            )
        return dict(said)

    def _change_back(
        self, row: Mapping[str, Any], said: Mapping[str, Any], values: dict[str, Any], kept: set[str]
    ) -> None:
        before, after = said["before"], said["after"]
        if _FOLDER in before and row[_FOLDER] != after[_FOLDER]:
            raise CannotComeBack(
                "the project's folder has been renamed since the task, so the folder keeps its present name"
            )
        if "status" in before and row["status"] != after["status"]:
            raise CannotComeBack("the project has been archived or made active since, so its status is kept")
        for name in before:
            if row[name] == after[name]:
                values[name] = before[name]
            else:
                kept.add(name)

    def _check_folder_name(self, project_id: int, name: str | None) -> None:
        owner = None if name is None else self._places.owner(name)
        if owner is not None and owner.id != project_id:
            raise CannotComeBack(
                f"project {owner.project_name} now has the folder {name}, so the name cannot be given back; rename "
                "that folder, run `photojobs run folder_discovery`, and undo the task again"
            )

    def _refuse_removal(self, row: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        with self._ctx.read() as connection:
            reason = is_in_use(connection, row["id"], own_tags=added.get(TAGS, []))
            edited = changed_columns(connection, projects, {row["id"]: added_values(added)}).get(row["id"], frozenset())
            used = referring_tables(connection, projects, [row["id"]])
        if reason is not None:
            raise CannotComeBack(f"the task created this project, but the project now has {reason}, so it is kept")
        edited |= {name for name in added.keys() & _CHOSEN if added[name] != row[name]}
        refuse_removal(edited, used_in=used.get(row["id"], ()))

    def _write(
        self,
        connection: Connection,
        project_id: int,
        row: Mapping[str, Any] | None,
        *,
        values: Mapping[str, Any],
        restored: Mapping[str, Any] | None,
        is_removed: bool,
    ) -> list[FileChange]:
        ctx = self._ctx
        source = f"{ctx.tenant_id}/{(row or restored or {}).get(_FOLDER, '')}"
        changes: list[FileChange] = []
        if restored is not None:
            tags = list(zip(restored.get(TAG_IDS, ()), restored.get(TAGS, ()), strict=True))
            add_project(connection, restored, tags=tags, now=ctx.now())
            row_after = {"after": dict(restored)}
            changes.append(FileChange(action=FileAction.ADDED_ROW, source=source, project_id=project_id, row=row_after))
        if row is None:
            return changes
        if is_removed:
            removed = remove_empty_project(connection, project_id)
            changes.append(FileChange(action=FileAction.REMOVED_ROW, source=source, project_id=project_id, row=removed))
        elif values:
            change_project(connection, project_id, values, now=ctx.now())
            if values.get("status") == "canceled" and self._was_gone(connection, project_id, values):
                changes.append(
                    FileChange(action=FileAction.ARCHIVED_AS_GONE, source=source, project_id=project_id, row=dict(row))
                )
        return changes

    def _was_gone(self, connection: Connection, project_id: int, values: Mapping[str, Any]) -> bool:
        moment = parse_timestamp(values.get("archived_at") or "")
        return moment is not None and any(
            abs(known - moment) <= _TOLERANCE for known in archived_as_gone_at(connection, project_id)
        )

    def _rename_back(self, entry: JournalEntry, project_id: int | None) -> list[FileChange]:
        """Rename a folder to its former name, unless it already has this name."""
        tenant = self._ctx.library.tenant(self._ctx.tenant_id)
        now_name, back_name = (path.rpartition("/")[2] for path in (str(entry.target), entry.source))
        try:
            now, back = tenant.project(now_name), tenant.project(back_name)
            if now.exists() and now.is_empty():
                raise CannotComeBack(
                    f"folder {now_name} is empty; its disk may not be mounted. Mount it, and undo the task again"
                )
            project = self._places.project(project_id)
            if project is not None and now.exists():
                check_project(self._ctx, project, now)
            if now.exists() or not _is_of(back, project_id):
                rename_folder_without_overwrite(now.path, back.path, names=FolderNames())
        except SourceMissing as error:
            raise CannotComeBack(f"folder {now_name} no longer exists; put it back, and undo the task again") from error
        except (Collision, CrossesFileSystems, ProjectUnavailable, UnsafePath) as error:
            raise CannotComeBack(str(error)) from error
        self._ctx.report.count("folders renamed back", example=f"{now_name} → {back_name}")
        return [
            FileChange(
                action=FileAction.RENAMED_FOLDER,
                source=relative_path(now, now.path),
                target=relative_path(back, back.path),
                project_id=project_id,
            )
        ]

    def _undo_folder(self, entry: JournalEntry) -> None:
        name = str(entry.target).rpartition("/")[2]
        owner = self._places.owner(name)
        if owner is not None:
            raise CannotComeBack(
                f"folder {name} now belongs to project {owner.project_name}, so the folder keeps its name"
            )
        self._mark_undone(entry, self._rename_back(entry, None))

    def _undo_manifest(self, entry: JournalEntry) -> None:
        ctx = self._ctx
        said = entry.row_json or {}
        before, after = said.get("before"), said.get("after")
        folder = self._places.folder(entry.source, entry.project_id)
        if not folder.exists():
            raise CannotComeBack(
                f"folder {folder.project_folder} of the project no longer exists; put it back, and undo the task again"
            )
        now = manifest_text(folder)
        is_back = now == before and (before is not None or not os.path.lexists(folder.manifest_path))
        if not is_back and now != after:
            raise CannotComeBack("the manifest has been changed since, so it is kept")
        path = relative_path(folder, folder.manifest_path)
        changes: list[FileChange] = []
        if before is None:
            if is_back:
                target = self._trashed_manifest(folder, entry.project_id)
            else:
                trashed = move_to_trash(folder, folder.manifest_path, at=ctx.now())
                sync_moves([(folder.manifest_path, trashed)])
                target = relative_path(folder, trashed)
            if target is not None:
                changes.append(
                    FileChange(action=FileAction.TRASHED, source=path, target=target, project_id=entry.project_id)
                )
        else:
            if not is_back:
                write_atomically(folder.manifest_path, before.encode())
                fsync_folder(folder.path)
            changes.append(
                FileChange(
                    action=FileAction.WROTE_MANIFEST,
                    source=path,
                    project_id=entry.project_id,
                    row={"before": after, "after": before},
                )
            )
        self._mark_undone(entry, changes)
        ctx.report.count("manifests changed back", example=path)

    def _trashed_manifest(self, folder: ProjectFolder, project_id: int | None) -> str | None:
        """Return the path of a manifest that an interrupted attempt moved to the trash but did not journal, or None."""
        found = [relative_path(folder, one.file) for one in list_trash(folder) if one.original_name == MANIFEST_NAME]
        if not found or project_id is None:
            return None
        with self._ctx.read() as connection:
            known = latest_by_target(connection, found, project_id=project_id)
        return next((target for target in sorted(found) if target not in known), None)

    def _mark_undone(self, entry: JournalEntry, changes: list[FileChange]) -> None:
        """Mark an entry as undone. The mark must be durable before the undo of the next entry changes files."""
        ctx = self._ctx
        with ctx.transaction(durable=True) as connection:
            ctx.journal(connection, changes)
            mark_undone(connection, [entry.id], now=ctx.now())


def _is_of(folder: ProjectFolder, project_id: int | None) -> bool:
    """Return whether an interrupted attempt has already given the project its folder back."""
    try:
        manifest = read_manifest(folder) if folder.exists() else None
    except ManifestUnreadable:
        return False
    return manifest is not None and manifest.id == project_id
