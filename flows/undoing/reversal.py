"""Computes the values of a photo's row after an undo, from the journal and the row's current values.

A column gets its earlier value only if it still has the value that the task wrote. Later changes are kept. The
docstring of `flows.undoing` names the modules that decide about files, names and projects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath
from typing import Any, Final

from flows.errors import FlowsError
from storage.history.foreign_columns import FOREIGN
from storage.history.journal import FileAction, JournalEntry
from storage.history.row_notes import NEW_TAGS
from storage.history.row_snapshots import DERIVATIVES, ORIGINALS, TAG_IDS, TAGS
from storage.photos.derivatives import METADATA, DerivativeKind

GENERATED: Final = "generated"
MISSING: Final = "missing"

#: Columns that identify a photo's files. If the task changed one, and it changed again later, the photo is not undone.
_PLACE: Final = ("project_id", "filename")

#: Columns with values that photojobs reads from the metadata of the original.
_OF_METADATA: Final = ("date_time_original", "orientation", "meta_json")

#: Values that are computed from the original. photojobs computes them again if they are missing.
_DERIVED: Final = frozenset({DERIVATIVES, ORIGINALS, *(f"{kind}_status" for kind in DerivativeKind)})


class CannotComeBack(FlowsError):
    """A change of a task cannot be undone now; the message gives the reason."""


@dataclass(slots=True)
class Reversal:
    """A photo's row as it will be after an undo.

    Attributes:
        state: the values of the row; None if the row will be removed or does not exist.
        kept: the columns that were changed after the task and keep their values.
        unneeded_tags: the tags that the task had added to a project.
        made: the kinds of derivatives that the task had made and that will be removed.
        wanted: the kinds of derivatives that the photo must have after the undo, as before the task.
        edited: for a row that the task added, the columns of other programs that were changed since.
        used_in: for a row that the task added, the tables of other programs that refer to it.
    """

    state: dict[str, Any] | None
    edited: frozenset[str] = frozenset()
    used_in: frozenset[str] = frozenset()
    kept: set[str] = field(default_factory=set)
    unneeded_tags: list[int] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)

    def take_back(self, entry: JournalEntry) -> None:
        """Change `state` so that it undoes one journal entry about the row.

        Raises:
            CannotComeBack: the photo was moved, renamed or removed after the task; the row that the task added was
                edited, or a row of another program refers to it; the id of the row that the task removed belongs to
                another photo; or the journal has no copy of the removed row.
        """
        row = entry.row_json if isinstance(entry.row_json, dict) else {}
        if entry.action == FileAction.ADDED_ROW:
            self._remove(entry, row.get("after"))
        elif entry.action == FileAction.REMOVED_ROW:
            self._restore(row)
        elif entry.action == FileAction.CHANGED_ROW:
            self._change_back(row)

    def _remove(self, entry: JournalEntry, added: Mapping[str, Any] | None) -> None:
        state = self.state
        if state is None:
            return
        if added is None:
            edited = {name for name, value in _at_first(entry, state).items() if state.get(name) != value}
        else:
            names = added.keys() - _DERIVED - {"updated_at", TAG_IDS, FOREIGN}
            edited = {name for name in names if added[name] != state.get(name)}
        refuse_removal(edited | self.edited, used_in=self.used_in)
        # Derivatives that existed before the row was added stay on the disk: no later code removes them.
        self.state = None

    def _restore(self, row: Mapping[str, Any]) -> None:
        if self.state is not None:
            raise CannotComeBack("its id now belongs to another photo, so its row cannot be restored")
        if not row:
            raise CannotComeBack("the journal has no copy of its row, so the row cannot be restored")
        self.state = {TAGS: [], TAG_IDS: [], DERIVATIVES: {}, ORIGINALS: {}, **row}
        self.wanted |= {str(kind) for kind in DerivativeKind if row.get(f"{kind}_status") == GENERATED}

    def _change_back(self, row: Mapping[str, Any]) -> None:
        before, after = row["before"], row["after"]
        if self.state is None:
            raise CannotComeBack("its row has been removed since, so its values cannot be restored")
        state = dict(self.state)
        for name in _PLACE:
            if name in before and state[name] != after[name]:
                raise CannotComeBack("the photo has been moved or renamed since, so it stays where it is")
        for name in before.keys() - _DERIVED - {TAGS, TAG_IDS}:
            if state[name] == after[name]:
                state[name] = before[name]
            else:
                self.kept.add(name)
        if TAG_IDS in before:
            if state[TAG_IDS] == after[TAG_IDS]:
                state[TAG_IDS], state[TAGS] = before[TAG_IDS], before.get(TAGS, state[TAGS])
                self.unneeded_tags += row.get(NEW_TAGS, [])
            else:
                # The tags were changed after the task, so the photo keeps its current tags. If it returns to another
                # project, it gets that project's tags of the same names.
                self.kept.add(TAGS)
        for kind in DerivativeKind:
            self._change_derivative_back(str(kind), state, row)
        if DERIVATIVES in before:
            read = {kind: known for kind, known in before[DERIVATIVES].items() if kind == METADATA}
            if state[DERIVATIVES].get(METADATA) == after[DERIVATIVES].get(METADATA):
                others = {kind: known for kind, known in state[DERIVATIVES].items() if kind != METADATA}
                state[DERIVATIVES] = {**others, **read}
        if ORIGINALS in before:
            state[ORIGINALS] = _originals_before(state[ORIGINALS], before[ORIGINALS], after[ORIGINALS])
        self.state = state

    def _change_derivative_back(self, kind: str, state: dict[str, Any], row: Mapping[str, Any]) -> None:
        before, after, status = row["before"], row["after"], f"{kind}_status"
        known_before = before.get(DERIVATIVES, {}).get(kind)
        known_after = after.get(DERIVATIVES, {}).get(kind)
        is_same = DERIVATIVES not in before or state[DERIVATIVES].get(kind) == known_after
        derivatives = {name: known for name, known in state[DERIVATIVES].items() if name != kind}
        if status not in before:
            # The task did not change the status. The row of the derivative from before the task is restored in two
            # cases. First, the rows before and after the task describe the same file: the photo was renamed, or two
            # jobs made equal files. Second, an undo has removed the row because the file was missing. A derivative that
            # was made again from its original keeps its present row.
            is_forgotten = known_after is None and state[status] == MISSING
            if is_same and known_before and (is_forgotten or (known_after and _is_the_same(known_before, known_after))):
                state[DERIVATIVES] = {**derivatives, kind: known_before}
            return
        if state[status] != after[status] or not is_same:
            self.kept.add(status)
            return
        state[status] = before[status]
        if before[status] == GENERATED:
            self.wanted.add(kind)
        elif kind in row.get("made", ()):
            self.made.add(kind)
        if DERIVATIVES in before:
            state[DERIVATIVES] = derivatives if known_before is None else {**derivatives, kind: known_before}


def refuse_removal(edited: Collection[str], *, used_in: Collection[str]) -> None:
    """Raise `CannotComeBack` if the row that a task added has been edited since, or another program refers to it.

    Args:
        edited: the columns that were changed since.
        used_in: the tables of other programs with a row that refers to the row.
    """
    if edited:
        names = ", ".join(sorted(edited))
        raise CannotComeBack(f"the row that the task added has been edited since ({names}), so the row is kept")
    if used_in:
        names = ", ".join(sorted(used_in))
        raise CannotComeBack(f"rows of other programs refer to the row that the task added ({names}), so it is kept")


def _at_first(entry: JournalEntry, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first values of a photo's row, in the columns that users and other programs change."""
    values: dict[str, Any] = {
        "project_id": entry.project_id,
        "filename": PurePosixPath(entry.source).name,
        "manifest_id": None,
        "visibility": "private",
        TAGS: [],
    }
    values |= {f"keep_{kind}": 1 for kind in ("jpg", "raw") if state[f"{kind}_available"]}
    if METADATA not in state[DERIVATIVES]:
        # No metadata were read from the file, so any value in these columns was written later by a user or another
        # program.
        values |= dict.fromkeys(_OF_METADATA)
    return values


def _originals_before(now: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rows of the originals before the task.

    If the originals were read again after the task, their present rows are kept; renamed files get their former names.
    """
    if now == after:
        return before
    former = {
        name: old
        for old in before.keys() - after.keys() - now.keys()
        for name in now.keys() & after.keys() - before.keys()
        if before[old] == after[name] and PurePath(old).suffix == PurePath(name).suffix
    }
    return {former.get(name, name): row for name, row in now.items()}


def _is_the_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether both rows describe the same derivative, or equal derivatives that were made from the same file."""
    moment = "generated_at"
    return before[moment] == after[moment] or {**before, moment: ""} == {**after, moment: ""}
