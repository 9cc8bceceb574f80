"""Undoes changes of photos and single files. Each photo is undone completely or not at all.

`PhotoUndo` plans what returns where. It refuses what cannot return because of files (`flows.undoing.ways_back`) or
rows (`flows.undoing.reversal`). `_Returns` moves the files and writes the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import Connection

from flows.errors import named, reason_of
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step_context import StepContext
from flows.steps.moving.image_move import DERIVATIVE_FOLDERS
from flows.steps.targets.photo_files import PhotoFiles, file_moves
from flows.steps.targets.target_projects import ProjectUnavailable
from flows.steps.targets.whereabouts import create_folder
from flows.undoing.added_files import AddedFiles, action_of
from flows.undoing.owner_changes import OwnerChanges
from flows.undoing.places import Places
from flows.undoing.reversal import MISSING, CannotComeBack, Reversal
from flows.undoing.ways_back import FILE_ACTIONS, WayBack, find_ways
from storage.batches import batched
from storage.database.tables import photos
from storage.history.foreign_columns import added_values, changed_columns
from storage.history.foreign_rows import referring_tables
from storage.history.journal import FileAction, FileChange, JournalEntry, mark_undone
from storage.history.photo_snapshots import DERIVATIVES
from storage.history.photo_states import PhotoStates, TakenNames
from storage.history.undo_entries import EntryGroup
from storage.library.atomic_write import fsync_folder
from storage.library.errors import LibraryError, UnsafePath
from storage.library.naming.companions import owner_keys
from storage.library.naming.names import name_key, printable
from storage.library.paths import TRASH_FOLDER, ProjectFolder
from storage.library.transfer import remove_derivative
from storage.library.trash import parse_trash_name, remove_wrapping
from storage.photos.derivatives import DerivativeKind

#: The kind under which the report counts changes that cannot be undone.
CANNOT: Final = "cannot be restored"

_PATHS = {
    DerivativeKind.THUMBNAIL: ProjectFolder.thumbnail,
    DerivativeKind.PREVIEW: ProjectFolder.preview_image,
}

_WORDS = {
    FileAction.RESTORED: "restored from the trash",
    FileAction.TRASHED: "moved to the trash again",
    FileAction.MOVED: "moved back",
    FileAction.RENAMED: "renamed back",
}


@dataclass(slots=True, kw_only=True)
class _Return(MoveGroup):
    """The undo of a group of journal entries: the files that move back, and the row of the photo before and after it.

    Attributes:
        group: the journal entries.
        added: the moves of files that the photo got after the task.
        before: the photo's row before the undo; None if the photo has no row.
        reversal: the photo's row after the undo.
        name: the name of the photo; empty if the entries concern a single file.
        lacks_derivatives: whether a thumbnail or preview must be made after the undo.
        counted: the kinds and examples that the report counts after the rows were written.
    """

    group: EntryGroup
    ways: list[WayBack]
    added: list[FileMove]
    before: dict[str, Any] | None
    reversal: Reversal
    name: str
    lacks_derivatives: bool = False
    counted: list[tuple[str, str]] = field(default_factory=list)

    @property
    def photo_ids(self) -> list[int]:
        """An empty list, because `PhotoStates` already writes the journal of the photo's row."""
        return []


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
        """Do not undo a group. If the group moved files of a photo, older moves of this photo are not undone either."""
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
        planned: list[_Return] = []
        for group, reversal in reversals:
            with self._reporting(group):
                planned.append(self._plan(group, reversal, states, added_files, owner_changes, taken))
        _Returns(ctx, planned, self._places, states).run()
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
            raise CannotComeBack("its files stay where they are, because a later move of the same files is not undone")
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
    ) -> _Return:
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
        old, new = (_place_of(self._ctx, self._places, state) for state in (before, reversal.state))
        was_merged = any(way.has_no_row for way in ways)
        added: list[FileMove] = []
        files_to = self._place_of_image(ways, now=old) if was_merged else new
        if old is not None and files_to is not None and old != files_to:
            added = added_files.moves(group.photo_id, ways, old, files_to)
            moves += added
        if old is not None and new is not None and old != new:
            moves += file_moves(PhotoFiles(), *old, *new)
        owner_changes.refuse(moves, self._image_name(ways) if new is None or was_merged else new[1])
        self._create_folders(moves)
        # The folder of a project without a row belongs to no project, so `_Returns.owners` does not find the project.
        missing = group.project_id if self._places.project(group.project_id) is None else None
        name = str((reversal.state or before or {}).get("filename", ""))
        ids = missing, missing, group.photo_id
        return _Return(moves, *ids, group=group, ways=ways, added=added, before=before, reversal=reversal, name=name)

    def _check_place(
        self, photo_id: int | None, state: dict[str, Any] | None, reversal: Reversal, taken: TakenNames
    ) -> None:
        """Check that the row's project exists, and that no other photo has its name or `manifest_id`."""
        wanted = reversal.state
        if wanted is None or photo_id is None:
            return
        if state is not None and all(wanted[name] == state[name] for name in ("project_id", "filename")):
            return
        project = self._places.project(wanted["project_id"])
        if project is None:
            raise CannotComeBack("its project no longer exists, so the photo cannot return to it")
        if taken.is_name_taken(wanted, but_for=photo_id):
            raise CannotComeBack(
                f"another photo of {project.project_name} has the same name now; rename it, and undo the task again"
            )
        if state is None and taken.is_manifest_id_taken(wanted, but_for=photo_id):
            raise CannotComeBack("another photo has the same manifest_id now, so the row cannot be restored")

    def _check_names(self, ways: Sequence[WayBack], state: dict[str, Any]) -> None:
        """Check that each file to move belongs to the photo now. Another photo may have the photo's former name."""
        describe, keys = self._ctx.library.accepted_extensions.describe, owner_keys(state["filename"])
        passed = {way.back for way in ways}
        for way in ways:
            if way.move is None or way.now in passed or way.entry.action == FileAction.TRASHED:
                continue
            if way.has_no_row:
                continue  # `Reversal` has compared the place of the row with the place that it got with the file.
            file = describe(way.now.name)
            has_name = not file.kind.is_photo or name_key(file.base_name) in keys
            if way.project_id != state["project_id"] or not has_name:
                raise CannotComeBack("the photo has been moved or renamed since, so it stays where it is")

    def _create_folders(self, moves: Sequence[FileMove]) -> None:
        """Create the missing folders of projects to which files return, unless their disks may not be mounted."""
        library = self._ctx.library
        for tenant_id, name in {move.target.relative_to(library.root).parts[:2] for move in moves}:
            folder = library.project(tenant_id, name)
            if not folder.exists():
                try:
                    create_folder(self._ctx, folder, self._places.owner(name))
                except ProjectUnavailable as error:
                    raise CannotComeBack(str(error)) from error

    def _image_name(self, ways: Sequence[WayBack]) -> str | None:
        """Return the base name of the image that returns, or None."""
        files = map(self._ctx.library.accepted_extensions.describe, (way.back.name for way in ways))
        return next((file.base_name for file in files if file.kind.is_photo), None)

    def _place_of_image(
        self, ways: Sequence[WayBack], *, now: tuple[ProjectFolder, str] | None
    ) -> tuple[ProjectFolder, str] | None:
        """Return the folder and the base name of the image that leaves the folder of the place `now`, or None."""
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


class _Returns(PhotoFilesChange[_Return]):
    """Moves the files of a batch of groups back, and writes the rows of the groups."""

    def __init__(self, ctx: StepContext, groups: Sequence[_Return], places: Places, states: PhotoStates) -> None:
        super().__init__(ctx, groups)
        self._places = places
        self._states = states
        #: The folders in which derivatives were removed.
        self._emptied: set[Path] = set()

    def owners(self, group: _Return, move: FileMove) -> tuple[int | None, int | None]:
        source, target = self._places.owner_of(move.source), self._places.owner_of(move.target)
        return source or group.project_id, target or group.target_project_id

    def move(self, group: _Return) -> None:
        for move in group.moves:
            if move.is_derivative:
                # The name of the photo is free, so a derivative with this name belongs to no photo.
                with suppress(LibraryError, OSError):
                    remove_derivative(move.target)
        group.carry_out(self.ctx.library)
        for move in group.originals:
            remove_wrapping(move.source)
        left = {move.target.parent.name for move in group.moves if not move.is_done}
        group.reversal.wanted |= {kind for kind, folder in DERIVATIVE_FOLDERS.items() if folder in left}
        for way in group.ways:
            if way.is_gone:
                place = printable(str(way.entry.target))
                group.counted.append((CANNOT, f"{way.name}: the file is no longer at {place}, where the task put it"))
                self._mark_unavailable(way, group)
        self._restore_derivatives(group)
        if group.photo_id is not None:
            self._states.put(group.photo_id, group.reversal.state, unneeded_tags=group.reversal.unneeded_tags)
        group.counted += _counted(group)

    def _mark_unavailable(self, way: WayBack, group: _Return) -> None:
        describe = self.ctx.library.accepted_extensions.describe
        kind, state = describe(way.back.name).kind, group.reversal.state
        has_other = any(describe(other.back.name).kind is kind for other in group.ways if not other.is_gone)
        if kind.is_photo and not has_other and state is not None:
            state[f"{kind}_available"] = 0

    def _restore_derivatives(self, group: _Return) -> None:
        """Remove the derivatives that the task had made, and mark missing derivatives in the row."""
        reversal, state = group.reversal, group.reversal.state
        old, new = (_place_of(self.ctx, self._places, known) for known in (group.before, state))
        for kind, path_of in _PATHS.items():
            with suppress(UnsafePath):
                place = new or old
                if kind in reversal.made and place is not None and remove_derivative(path_of(*place)):
                    self._emptied.add(path_of(*place).parent)
                    group.counted.append(("derivatives removed again", group.name))
            if state is None or kind not in reversal.wanted or (new is not None and _exists(path_of, new)):
                continue
            state[f"{kind}_status"] = MISSING
            state[DERIVATIVES] = {name: known for name, known in state[DERIVATIVES].items() if name != str(kind)}
            if any(state[f"{one}_available"] for one in ("jpg", "raw", "other")):
                group.lacks_derivatives = True
            else:
                reason = f"its {kind} was removed, and no original is left to make a new one"
                group.counted.append((CANNOT, f"{group.name}: {reason}"))

    def finish(self) -> None:
        for folder in self._emptied:
            fsync_folder(folder)
        super().finish()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.ctx.transaction(enqueues=True, durable=True) as connection:
            outdated = self._states.changed_since(connection)
            for group in [group for group in self.done if group.photo_id in outdated]:
                # The intents of the group stay, so the next job that claims the group's projects moves the files back.
                self._states.forget(group.photo_id or 0)
                self.done.remove(group)
                group.error = CannotComeBack("its row was changed during the undo; undo the task again")
            yield connection

    def changes(self, group: _Return, row: dict[str, Any] | None) -> Iterator[FileChange]:
        for way in group.ways:
            if not way.is_gone:
                yield FileChange(
                    action=FILE_ACTIONS[FileAction(way.entry.action)],
                    source=self.path(way.now),
                    target=self.path(way.back),
                    project_id=way.entry.project_id if way.project_id is None else way.project_id,
                    photo_id=way.entry.photo_id,
                    size_bytes=way.entry.size_bytes,
                    row=way.entry.row_json if way.entry.photo_id is None else None,
                )
        merged = next((way.entry for way in group.ways if way.has_no_row), None)
        for move in group.added:
            yield FileChange(
                action=action_of(move),
                source=self.path(move.source),
                target=self.path(move.target),
                project_id=self.owners(group, move)[0],
                photo_id=group.photo_id if merged is None else None,
                size_bytes=move.size_bytes,
                row=None if merged is None else merged.row_json,
            )

    def write(self, connection: Connection) -> None:
        ctx, now = self.ctx, self.ctx.now()
        folders = self._places.folders(self._states.project_ids())
        ctx.journal(connection, self._states.write(connection, tenant_id=ctx.tenant_id, folders=folders, now=now))
        mark_undone(connection, [entry_id for one in self.done for entry_id in one.group.ids], now=now)
        lacking = [one.photo_id for one in self.done if one.lacks_derivatives and one.photo_id is not None]
        ctx.enqueue("generate_derivatives", photo_ids=lacking, connection=connection)

    def report(self) -> None:
        for word, example in (counted for one in self.done for counted in one.counted):
            if word == CANNOT:
                leave(self.ctx, *example.split(": ", 1))
            else:
                self.ctx.report.count(word, example=example)


def _counted(one: _Return) -> Iterator[tuple[str, str]]:
    for name in sorted(one.reversal.kept):
        yield "values kept, because they were changed after the task", f"{one.name}: {name}"
    if one.before is None and one.reversal.state is not None:
        yield "rows restored", one.name
    elif one.before is not None and one.reversal.state is None:
        yield "rows removed again", one.name
    elif any(entry.action == FileAction.CHANGED_ROW for entry in one.group.entries):
        yield "rows changed back", one.name
    for way in one.ways:
        if way.entry.photo_id is None:
            yield "files moved back", way.entry.source
        elif way.move is not None:
            yield _WORDS[FILE_ACTIONS[FileAction(way.entry.action)]], way.name
    for move in one.added:
        yield _WORDS[action_of(move)], printable(move.target.name)


def _place_of(ctx: StepContext, places: Places, state: dict[str, Any] | None) -> tuple[ProjectFolder, str] | None:
    project = None if state is None else places.project(int(state["project_id"]))
    return None if state is None or project is None else (ctx.folder_of(project), str(state["filename"]))


def _without_shared_names(groups: Sequence[EntryGroup]) -> Iterator[list[EntryGroup]]:
    """Yield the groups in batches. Within a batch, no two groups concern the same photo or the same name of a file.

    A batch is planned before its first file moves, so no group may depend on another.
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


def report_left(ctx: StepContext, entries: Sequence[JournalEntry], reason: str) -> None:
    """Report that entries cannot be undone, under the name of their photo, project or file."""
    leave(ctx, name_of(entries), reason)


def leave(ctx: StepContext, name: str, reason: str) -> None:
    """Report that the named file or row cannot be undone, and why."""
    ctx.report.count(CANNOT, example=named(name, reason))
    ctx.report.leave(name, reason)


def name_of(entries: Sequence[JournalEntry]) -> str:
    """Return the path of the entries' photo, project or file as it was before the task."""
    path = PurePosixPath(entries[-1].source)
    parsed = parse_trash_name(path.name)
    if parsed is not None and parsed.original_name and TRASH_FOLDER in path.parts:
        path = path.with_name(parsed.original_name)
    return printable(path.as_posix())


def _exists(path_of: Callable[[ProjectFolder, str], Path], place: tuple[ProjectFolder, str]) -> bool:
    with suppress(UnsafePath, OSError):
        path = path_of(*place)
        return path.is_file() and path.lstat().st_size > 0
    return False
