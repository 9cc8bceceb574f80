"""Undoes changes of photos: of their files, derivatives and rows. Each photo is undone completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from flows.errors import StepTimeout
from flows.handlers.step_context import StepContext
from flows.steps.moving.image_move import bring_derivative
from flows.undoing.file_moves import FILE_ACTIONS, FileMoves, WayBack
from flows.undoing.places import Places
from flows.undoing.reversal import MISSING, CannotComeBack, Reversal
from storage.history.journal import FileAction, FileChange, JournalEntry, mark_undone
from storage.history.photo_snapshots import DERIVATIVES
from storage.history.photo_states import PhotoStates, taken_manifest_ids, taken_names
from storage.history.undo_entries import EntryGroup
from storage.library.errors import LibraryError, UnsafePath
from storage.library.naming.names import printable
from storage.library.paths import TRASH_FOLDER, ProjectFolder
from storage.library.transfer import remove_derivative
from storage.library.trash import parse_trash_name
from storage.photos.derivatives import DerivativeKind

#: The number of photos in a batch. Their files move first, then one transaction writes their rows. A crash interrupts
#: only one batch.
BATCH_SIZE: Final = 100

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


@dataclass(slots=True)
class _Undone:
    """The moved files and the report lines of one group of entries, until the rows are written."""

    group: EntryGroup
    name: str
    changes: list[FileChange] = field(default_factory=list)
    lacks_derivatives: bool = False
    said: list[tuple[str, str]] = field(default_factory=list)


class PhotoUndo:
    """Undoes groups of journal entries about photos, in batches. The caller must hold the projects of the photos."""

    def __init__(self, ctx: StepContext, places: Places) -> None:
        self._ctx = ctx
        self._places = places
        self._moves = FileMoves(ctx, places)
        #: The failures for which a repetition may succeed.
        self.failures: list[str] = []

    def fail(self, name: str, reason: str) -> None:
        """Report a failure. The undo of the other groups continues."""
        self._ctx.report.fail(name, reason)
        self.failures.append(f"{name}: {reason}")

    def run(self, groups: Sequence[EntryGroup]) -> None:
        """Undo the groups in order. Each group that cannot be undone is reported by name."""
        for batch in _without_shared_names(groups):
            self._undo_batch(batch)

    def _undo_batch(self, groups: Sequence[EntryGroup]) -> None:
        ctx = self._ctx
        with ctx.read() as connection:
            states = PhotoStates(connection, [group.photo_id for group in groups if group.photo_id is not None])
        done: list[_Undone] = []
        try:
            for group in groups:
                ctx.checkpoint()
                try:
                    done.append(self._undo(group, states))
                except CannotComeBack as error:
                    report_left(ctx, group.entries, str(error))
                except StepTimeout:
                    raise
                except (LibraryError, OSError) as error:
                    self.fail(name_of(group.entries), str(error))
        finally:
            if done:
                self._write(done, states)

    def _undo(self, group: EntryGroup, states: PhotoStates) -> _Undone:
        photo_id = group.photo_id
        assert photo_id is not None  # noqa: S101 - the caller passes groups of photos only.
        state = states.get(photo_id)
        reversal = Reversal(state)
        about_row = [entry for entry in group.entries if FileAction(entry.action) not in FILE_ACTIONS]
        for entry in about_row:
            reversal.take_back(entry)
        self._check_place(photo_id, state, reversal)
        now_in = None if state is None else int(state["project_id"])
        ways = [
            self._moves.find(entry, now_in=now_in)
            for entry in group.entries
            if FileAction(entry.action) in FILE_ACTIONS
        ]
        gone = [way for way in ways if way.is_gone]
        self._check_gone(ways, gone, reversal)
        undone = _Undone(group, str((reversal.state or state or {}).get("filename", "")))
        going: list[tuple[WayBack, FileChange]] = []
        try:
            for way in ways:
                if not way.is_gone:
                    change = self._moves.go(way)
                    going.append((way, change))
        except Exception:
            self._moves.return_all(going)
            raise
        undone.changes = [change for _, change in going]
        for way in gone:
            undone.said.append((CANNOT, f"{way.name}: the file is no longer in the trash"))
            self._mark_unavailable(way, ways, reversal)
        self._settle_derivatives(state, reversal, undone)
        states.put(photo_id, reversal.state, unneeded_tags=reversal.unneeded_tags)
        undone.said += [("kept, because changed since", f"{undone.name}: {name}") for name in sorted(reversal.kept)]
        if state is None and reversal.state is not None:
            undone.said.append(("rows restored", undone.name))
        elif state is not None and reversal.state is None:
            undone.said.append(("rows removed again", undone.name))
        elif any(entry.action == FileAction.CHANGED_ROW for entry in about_row):
            undone.said.append(("rows changed back", undone.name))
        undone.said += [
            (_WORDS[FileAction(change.action)], printable(way.back.name)) for way, change in going if not way.is_back
        ]
        return undone

    def _check_place(self, photo_id: int, state: dict[str, object] | None, reversal: Reversal) -> None:
        """Check that the row's project exists, and that no other photo has its name or `manifest_id`."""
        wanted = reversal.state
        if wanted is None:
            return
        place = (wanted["project_id"], wanted["filename"])
        if state is not None and place == (state["project_id"], state["filename"]):
            return
        project = self._places.project(wanted["project_id"])
        if project is None:
            raise CannotComeBack("its project no longer exists")
        with self._ctx.read() as connection:
            if taken_names(connection, [place], but_for=[photo_id]):
                raise CannotComeBack(f"another photo of {project.project_name} has the same name now")
            known = wanted["manifest_id"]
            if state is None and known is not None and taken_manifest_ids(connection, [known], but_for=[photo_id]):
                raise CannotComeBack("another photo has the same manifest_id now")

    def _check_gone(self, ways: Sequence[WayBack], gone: Sequence[WayBack], reversal: Reversal) -> None:
        if not gone:
            return
        kind_of = self._ctx.library.accepted_extensions.describe
        images = [way for way in ways if kind_of(way.back.name).kind.is_photo]
        left = [way for way in images if not way.is_gone]
        if not left if images else len(gone) == len(ways):
            raise CannotComeBack(f"{gone[0].name}: the file is no longer where the task put it")
        if any(FileAction(way.entry.action) is not FileAction.TRASHED for way in gone):
            raise CannotComeBack(f"{gone[0].name}: the file is missing, and the files of a photo move only together")

    def _mark_unavailable(self, way: WayBack, ways: Sequence[WayBack], reversal: Reversal) -> None:
        describe = self._ctx.library.accepted_extensions.describe
        kind = describe(way.back.name).kind
        has_other = any(describe(other.back.name).kind is kind for other in ways if not other.is_gone)
        if kind.is_photo and not has_other and reversal.state is not None:
            reversal.state[f"{kind}_available"] = 0

    def _settle_derivatives(self, state: dict[str, object] | None, reversal: Reversal, undone: _Undone) -> None:
        """Move derivatives with the photo, remove those that the task had made, and mark missing ones in the row."""
        old, new = self._place_of(state), self._place_of(reversal.state)
        for kind, path_of in _PATHS.items():
            with suppress(UnsafePath):
                if old is not None and new is not None and old != new:
                    bring_derivative(path_of, old[0], old[1], new[0], new[1], is_resumed=True)
                place = new or old
                if kind in reversal.made and place is not None and remove_derivative(path_of(*place)):
                    undone.said.append(("derivatives removed again", undone.name))
            if reversal.state is None or kind not in reversal.wanted:
                continue
            if not _exists(path_of, new):
                reversal.state[f"{kind}_status"] = MISSING
                derivatives = {**reversal.state[DERIVATIVES]}
                derivatives.pop(str(kind), None)
                reversal.state[DERIVATIVES] = derivatives
                if any(reversal.state[f"{one}_available"] for one in ("jpg", "raw", "other")):
                    undone.lacks_derivatives = True
                else:
                    reason = f"its {kind} was removed, and no original is left to make a new one"
                    undone.said.append((CANNOT, f"{undone.name}: {reason}"))

    def _place_of(self, state: dict[str, object] | None) -> tuple[ProjectFolder, str] | None:
        if state is None:
            return None
        project = self._places.project(int(str(state["project_id"])))
        return None if project is None else (self._ctx.folder_of(project), str(state["filename"]))

    def _write(self, done: Sequence[_Undone], states: PhotoStates) -> None:
        ctx = self._ctx
        changes = [change for undone in done for change in undone.changes]
        self._moves.sync(changes)
        with ctx.transaction(enqueues=True, durable=True) as connection:
            outdated = states.changed_since(connection)
            for photo_id in outdated:
                states.forget(photo_id)
            folders = self._places.folders(states.project_ids())
            changes += states.write(connection, tenant_id=ctx.tenant_id, folders=folders, now=ctx.now())
            ctx.journal(connection, changes)
            settled = [undone for undone in done if undone.group.photo_id not in outdated]
            mark_undone(connection, [one for undone in settled for one in undone.group.ids], now=ctx.now())
            lacking = [undone.group.photo_id for undone in settled if undone.lacks_derivatives]
            ctx.enqueue(
                "generate_derivatives",
                photo_ids=[photo_id for photo_id in lacking if photo_id is not None],
                connection=connection,
            )
        for undone in done:
            if undone.group.photo_id in outdated:
                self.fail(undone.name, "its row was changed during the undo")
                continue
            for word, example in undone.said:
                if word == CANNOT:
                    leave(ctx, *example.split(": ", 1))
                else:
                    ctx.report.count(word, example=example)


def _without_shared_names(groups: Sequence[EntryGroup]) -> Iterator[list[EntryGroup]]:
    """Yield the groups in batches. Within a batch, no two groups move files from or to the same name.

    If a crash prevents the rows of a batch from being written, the next attempt identifies its files by their places.
    """
    batch: list[EntryGroup] = []
    names: set[str | None] = set()
    for group in groups:
        moves = [entry for entry in group.entries if FileAction(entry.action) in FILE_ACTIONS]
        own = {name for entry in moves for name in (entry.source, entry.target)}
        if not names.isdisjoint(own):
            yield batch
            batch, names = [], set()
        batch.append(group)
        names |= own
    yield batch


def report_left(ctx: StepContext, entries: Sequence[JournalEntry], reason: str) -> None:
    """Report that entries cannot be undone, under the name of their photo, project or file."""
    leave(ctx, name_of(entries), reason)


def leave(ctx: StepContext, name: str, reason: str) -> None:
    """Report that the named file or row cannot be undone, and why."""
    ctx.report.count(CANNOT, example=f"{name}: {reason}")
    ctx.report.leave(name, reason)


def name_of(entries: Sequence[JournalEntry]) -> str:
    """Return the path of the entries' photo, project or file as it was before the task."""
    path = PurePosixPath(entries[-1].source)
    parsed = parse_trash_name(path.name)
    if parsed is not None and parsed.original_name and TRASH_FOLDER in path.parts:
        path = path.with_name(parsed.original_name)
    return printable(path.as_posix())


def _exists(path_of: object, place: tuple[ProjectFolder, str] | None) -> bool:
    if place is None or not callable(path_of):
        return False
    with suppress(UnsafePath, OSError):
        path = path_of(*place)
        return bool(path.is_file() and path.lstat().st_size > 0)
    return False
