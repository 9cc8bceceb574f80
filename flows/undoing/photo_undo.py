"""Undoes changes of photos and single files. Each photo is undone completely or not at all.

`PhotoUndo` plans what returns where. It refuses what cannot return because of files (`flows.undoing.ways_back`) or
rows (`flows.undoing.reversal`). `flows.undoing.photo_returns` moves the files and writes the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from flows.errors import named, reason_of
from flows.handlers.announced_moves import FileMove
from flows.handlers.photo_files_change import BATCH_SIZE
from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import PhotoFiles, file_moves
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from flows.steps.targets.whereabouts import create_folder
from flows.undoing.added_files import AddedFiles
from flows.undoing.left_entries import name_of, report_left
from flows.undoing.owner_changes import OwnerChanges
from flows.undoing.photo_returns import PhotoReturn, return_photos
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack, Reversal
from flows.undoing.ways_back import FILE_ACTIONS, WayBack, find_ways
from storage.batches import batched
from storage.database.tables import photos
from storage.history.foreign_columns import added_values, changed_columns
from storage.history.foreign_rows import referring_tables
from storage.history.journal import FileAction, JournalEntry
from storage.history.photo_states import PhotoStates, TakenNames
from storage.history.undo_entries import EntryGroup
from storage.library.errors import LibraryError
from storage.library.naming.companions import owner_keys
from storage.library.naming.names import name_key, printable
from storage.library.paths import ProjectFolder


class PhotoUndo:
    """Undoes groups of journal entries about photos and single files, in batches.

    The caller must have claimed the projects of the groups.

    Attributes:
        failures: the failures for which a repetition may succeed.
        stuck: the projects whose older entries can be undone only after an entry that failed.
    """

    def __init__(self, ctx: StepContext, places: Places) -> None:
        self._ctx = ctx
        self._places = places
        self.failures: list[str] = []
        self.stuck: set[int] = set()
        #: Ids of photos with a later move whose undo failed. The undo of their older moves waits for a repetition.
        self._failed: set[int | None] = set()
        #: Ids of photos with a later move that is not undone. The undo of their older moves is refused.
        self._kept: set[int | None] = set()
        self._unavailable: Mapping[int, str] = {}
        #: The folders that were checked, because files of the current batch return to them.
        self._checked: set[tuple[str, ...]] = set()

    def fail(self, group: EntryGroup, reason: str) -> None:
        """Report a failure. The undo of the other groups continues. A repetition of the job tries the group again."""
        name = name_of(group.entries)
        self._ctx.report.fail(name, reason)
        self.failures.append(named(name, reason))
        if group.photo_id is None:
            self.stuck |= group.project_ids()
        elif _moves(group):
            self._failed.add(group.photo_id)

    def keep(self, group: EntryGroup) -> None:
        """Note that a group is not undone. If it moved files of a photo, older moves of the photo stay, too."""
        if group.photo_id is not None and _moves(group):
            self._kept.add(group.photo_id)

    def run(self, groups: Sequence[EntryGroup], *, unavailable: Mapping[int, str]) -> Iterator[int]:
        """Undo the groups in order, and yield the number of entries of each batch after it was undone.

        Each group that cannot be undone is reported by name. Groups of the projects `unavailable` cannot be undone now,
        for the reason given there.
        """
        self._unavailable = unavailable
        for independent in _without_shared_names(groups):
            added_files = AddedFiles(self._ctx, self._places, independent)
            owner_changes = OwnerChanges(self._ctx, self._places)
            owner_changes.prepare(
                name
                for group in independent
                for name in (*(PurePosixPath(one.source).name for one in _moves(group)), *added_files.names(group))
            )
            for batch in batched(independent, BATCH_SIZE):
                ready = [group for group in batch if not self._is_stuck(group)]
                self._undo_batch(ready, added_files, owner_changes)
                yield sum(len(group.entries) for group in batch)

    def _is_stuck(self, group: EntryGroup) -> bool:
        return bool(self.stuck & group.project_ids() or (group.photo_id in self._failed and _moves(group)))

    def _undo_batch(self, groups: Sequence[EntryGroup], added_files: AddedFiles, owner_changes: OwnerChanges) -> None:
        ctx = self._ctx
        self._checked.clear()
        with ctx.read() as connection:
            states = PhotoStates(connection, [group.photo_id for group in groups if group.photo_id is not None])
            added = _added(groups)
            edited = changed_columns(connection, photos, added)
            used = referring_tables(connection, photos, list(added))
        reversals: list[tuple[EntryGroup, Reversal]] = []
        for group in groups:
            with self._reporting(group):
                reversals.append((group, self._reversal(group, states, edited=edited, used=used)))
        with ctx.read() as connection:
            taken = TakenNames(connection, [reversal.state for _, reversal in reversals if reversal.state is not None])
        planned: list[PhotoReturn] = []
        for group, reversal in reversals:
            with self._reporting(group):
                planned.append(self._plan(group, reversal, states, added_files, owner_changes, taken))
        return_photos(ctx, planned, self._places, states)
        for one in planned:
            if one.error is not None:
                self.fail(one.group, reason_of(one.error))

    @contextmanager
    def _reporting(self, group: EntryGroup) -> Iterator[None]:
        try:
            yield
        except CannotComeBack as error:
            self.keep(group)
            report_left(self._ctx, group.entries, str(error))
        except (LibraryError, OSError) as error:
            self.fail(group, reason_of(error))

    def _reversal(
        self,
        group: EntryGroup,
        states: PhotoStates,
        *,
        edited: Mapping[int, frozenset[str]],
        used: Mapping[int, frozenset[str]],
    ) -> Reversal:
        for project_id in self._unavailable.keys() & group.project_ids():
            raise CannotComeBack(self._unavailable[project_id])
        if group.photo_id in self._kept and _moves(group):
            raise CannotComeBack(
                "a later move of this photo by the same task cannot be undone, so its files stay where they are; solve "
                "the problem that is reported for the later move, and undo the task again"
            )
        photo_id, none = group.photo_id or 0, frozenset[str]()
        before = states.get(photo_id)
        state = None if before is None else dict(before)
        reversal = Reversal(state, edited=edited.get(photo_id, none), used_in=used.get(photo_id, none))
        for entry in group.entries:
            if entry.action not in FILE_ACTIONS:
                reversal.take_back(entry)
        return reversal

    def _plan(
        self,
        group: EntryGroup,
        reversal: Reversal,
        states: PhotoStates,
        added_files: AddedFiles,
        owner_changes: OwnerChanges,
        taken: TakenNames,
    ) -> PhotoReturn:
        before = None if group.photo_id is None else states.get(group.photo_id)
        self._check_place(group.photo_id, before, reversal, taken)
        ways = find_ways(
            self._places,
            _moves(group),
            now_in=None if before is None else int(before["project_id"]),
            at=self._ctx.now(),
        )
        self._check_gone(ways)
        if before is not None:
            self._check_names(ways, before)
        moves = [way.move for way in ways if way.move is not None]
        old, new = map(self._places.of_photo, (before, reversal.state))
        was_merged = any(way.has_no_row for way in ways)
        added: list[FileMove] = []
        files_to = self._place_of_image(ways, now=old) if was_merged else new
        if old is not None and files_to is not None and old != files_to:
            added = added_files.moves(group.photo_id, ways, old, files_to)
            moves += added
        if old is not None and new is not None and old != new:
            moves += file_moves(PhotoFiles(), *old, *new)
        owner_changes.refuse(moves, self._image_name(ways) if new is None or was_merged else new[1])
        self._check_folders(moves)
        # If the row of the project was removed, the project cannot be found by the paths of the files. So the
        # `PhotoReturn` gets the project's id.
        missing = group.project_id if self._places.project(group.project_id) is None else None
        name = str((reversal.state or before or {}).get("filename", ""))
        ids = missing, missing, group.photo_id
        return PhotoReturn(
            moves, *ids, group=group, ways=ways, added=added, before=before, reversal=reversal, name=name
        )

    def _check_place(
        self, photo_id: int | None, state: dict[str, Any] | None, reversal: Reversal, taken: TakenNames
    ) -> None:
        """Check that the restored row's project exists, and that no other photo has the row's name or `manifest_id`."""
        wanted = reversal.state
        if wanted is None or photo_id is None:
            return
        if state is not None and all(wanted[name] == state[name] for name in ("project_id", "filename")):
            return
        project = self._places.project(wanted["project_id"])
        if project is None:
            raise CannotComeBack("its project no longer exists, so the photo stays where it is")
        if taken.is_name_taken(wanted, but_for=photo_id):
            raise CannotComeBack(
                f"another photo of {project.project_name} has the same name now; rename that photo, and undo the task "
                "again"
            )
        if state is None and taken.is_manifest_id_taken(wanted, but_for=photo_id):
            raise CannotComeBack("another photo has the same manifest_id now, so the row cannot be restored")

    def _check_names(self, ways: Sequence[WayBack], state: dict[str, Any]) -> None:
        """Check that each file to move belongs to the photo now. Another photo may have the photo's former name."""
        describe, keys = self._ctx.library.accepted_extensions.describe, owner_keys(state["filename"])
        passed = {way.back for way in ways}
        for way in ways:
            is_trashed = way.entry.action == FileAction.TRASHED
            # `Reversal` has compared the place of a merged photo's row with the place that the row got with the file.
            if way.move is None or way.has_no_row or (way.now in passed and not is_trashed):
                continue
            file = describe((way.back if is_trashed else way.now).name)
            has_name = not file.kind.is_photo or name_key(file.base_name) in keys
            if way.project_id == state["project_id"] and has_name:
                continue
            if is_trashed:
                raise CannotComeBack(
                    f"the photo has been moved or renamed since, so {way.name} stays in the trash, at "
                    f"{printable(str(way.entry.target))}; move the file to the photo's folder, and give it the "
                    "photo's name"
                )
            raise CannotComeBack("the photo has been moved or renamed since, so it stays where it is")

    def _check_folders(self, moves: Sequence[FileMove]) -> None:
        """Check the folders of projects to which files return, and create missing ones.

        Raises:
            CannotComeBack: a folder is missing or has no file of its project; its disk may not be mounted, or a user
                may have renamed it.
        """
        library = self._ctx.library
        for place in {move.target.relative_to(library.root).parts[:2] for move in moves} - self._checked:
            tenant_id, name = place
            folder, owner = library.project(tenant_id, name), self._places.owner(name)
            try:
                if not folder.exists():
                    create_folder(self._ctx, folder, owner)
                elif owner is not None:
                    check_project(self._ctx, owner, folder)
            except ProjectUnavailable as error:
                raise CannotComeBack(str(error)) from error
            self._checked.add(place)

    def _image_name(self, ways: Sequence[WayBack]) -> str | None:
        """Return the base name of the image that returns, or None."""
        files = map(self._ctx.library.accepted_extensions.describe, (way.back.name for way in ways))
        return next((file.base_name for file in files if file.kind.is_photo), None)

    def _place_of_image(
        self, ways: Sequence[WayBack], *, now: tuple[ProjectFolder, str] | None
    ) -> tuple[ProjectFolder, str] | None:
        """Return the place to which the image in the folder of `now` returns; None if no image leaves that folder."""
        library = self._ctx.library
        for way in ways:
            file = library.accepted_extensions.describe(way.back.name)
            if file.kind.is_photo and now is not None and way.now.parent == now[0].path:
                return library.project(*way.back.relative_to(library.root).parts[:2]), file.base_name
        return None

    def _check_gone(self, ways: Sequence[WayBack]) -> None:
        gone = [way for way in ways if way.is_gone]
        if not gone:
            return
        kind_of = self._ctx.library.accepted_extensions.describe
        images = [way for way in ways if kind_of(way.back.name).kind.is_photo]
        left = [way for way in images if not way.is_gone]
        if not left if images else len(gone) == len(ways):
            place = printable(str(gone[0].entry.target))
            raise CannotComeBack(
                f"{gone[0].name}: the file is no longer at {place}, where the task put it; put it back there, and undo "
                "the task again"
            )
        for way in gone:
            if way in images and FileAction(way.entry.action) is not FileAction.TRASHED:
                place = printable(str(way.entry.target))
                raise CannotComeBack(
                    f"{way.name}: the file is no longer at {place}, and the files of a photo move only together; put "
                    "it back there, and undo the task again"
                )


def _without_shared_names(groups: Sequence[EntryGroup]) -> Iterator[list[EntryGroup]]:
    """Yield the groups in batches. Within a batch, no two groups concern the same photo or the same path.

    A batch is planned before its first file moves, so no group may depend on another group of the batch.
    """
    batch: list[EntryGroup] = []
    names: set[str | int | None] = set()
    for group in groups:
        own = {group.photo_id, *(name for entry in _moves(group) for name in (entry.source, entry.target))} - {None}
        if not names.isdisjoint(own):
            yield batch
            batch, names = [], set()
        batch.append(group)
        names |= own
    yield batch


def _added(groups: Sequence[EntryGroup]) -> dict[int, Mapping[str, Any]]:
    """Return the photos whose rows the task added, each with its first values in columns of other programs."""
    return {
        group.photo_id: added_values(entry.row_json)
        for group in groups
        for entry in group.entries
        if group.photo_id is not None and entry.action == FileAction.ADDED_ROW
    }


def _moves(group: EntryGroup) -> list[JournalEntry]:
    return [entry for entry in group.entries if entry.action in FILE_ACTIONS]
