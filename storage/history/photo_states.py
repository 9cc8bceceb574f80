"""Writes snapshots of photos back for an undo, with their tags, derivatives and originals.

`flows.undoing.reversal` decides which values an undo restores.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, exists, insert, select

from storage.database.clock import parse_timestamp
from storage.database.tables import photo_tags, photos, tags
from storage.history.foreign_columns import FOREIGN, restore_foreign_values
from storage.history.foreign_rows import removal_refusals
from storage.history.journal import FileAction, FileChange
from storage.history.project_states import add_tags
from storage.history.row_snapshots import DERIVATIVES, ORIGINALS, TAG_IDS, TAGS, difference, row_values, snapshot_photos
from storage.history.snapshot_values import is_among, stored_value
from storage.photos.derivatives import Derivative, DerivativesRepository
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository

_RELATED = frozenset({TAGS, TAG_IDS, DERIVATIVES, ORIGINALS, FOREIGN})

#: The id of a photo and its snapshot.
_State = tuple[int, dict[str, Any]]

_Row = TypeVar("_Row", Derivative, Original)


class PhotoStates:
    """The current and the wanted states of photos, as snapshots; None for a photo without a row."""

    def __init__(self, connection: Connection, photo_ids: Iterable[int]) -> None:
        self._ids = sorted(set(photo_ids))
        self._loaded = snapshot_photos(connection, self._ids)
        self._wanted: dict[int, dict[str, Any] | None] = {}
        self._new_tags: set[int] = set()

    def get(self, photo_id: int) -> dict[str, Any] | None:
        """Return the wanted state of a photo, or its current state if `put` was not called for it."""
        return self._wanted.get(photo_id, self._loaded.get(photo_id))

    def put(self, photo_id: int, state: dict[str, Any] | None, *, unneeded_tags: Sequence[int] = ()) -> None:
        """Set the wanted state of a photo.

        `write` later removes the tags in `unneeded_tags`, except those of photos and those that rows of other programs
        keep from being removed.
        """
        self._wanted[photo_id] = state
        self._new_tags.update(unneeded_tags)

    def project_ids(self) -> set[int]:
        """Return the current and the wanted projects of the photos."""
        states = (*self._loaded.values(), *self._wanted.values())
        return {int(state["project_id"]) for state in states if state is not None}

    def forget(self, photo_id: int) -> None:
        """Discard the wanted state of a photo."""
        self._wanted.pop(photo_id, None)

    def changed_since(self, connection: Connection) -> set[int]:
        """Return the ids of photos with a wanted state whose rows have changed since this object was created."""
        now = snapshot_photos(connection, sorted(self._wanted))
        return {photo_id for photo_id in self._wanted if now.get(photo_id) != self._loaded.get(photo_id)}

    def write(
        self, connection: Connection, *, tenant_id: str, folders: Mapping[int, str], now: datetime
    ) -> list[FileChange]:
        """Write the wanted states, and return the changes for the journal.

        `folders` has the folder name of each project.
        """
        removed: list[int] = []
        added: list[_State] = []
        differing: list[tuple[int, dict[str, Any], set[str]]] = []
        changes: list[FileChange] = []
        for photo_id, wanted in self._wanted.items():
            loaded = self._loaded.get(photo_id)
            known = loaded or wanted
            if known is None:
                continue
            place = {
                "source": f"{tenant_id}/{folders.get(known['project_id'], '')}/{known['filename']}",
                "project_id": known["project_id"],
                "photo_id": photo_id,
            }
            if wanted is None:
                removed.append(photo_id)
                changes.append(FileChange(action=FileAction.REMOVED_ROW, row=loaded, **place))
            elif loaded is None:
                added.append((photo_id, wanted))
                changes.append(FileChange(action=FileAction.ADDED_ROW, row={"after": wanted}, **place))
            else:
                found = difference(loaded, wanted)
                if found is not None:
                    differing.append((photo_id, wanted, set(found.before)))
                    row = {"before": found.before, "after": found.after}
                    changes.append(FileChange(action=FileAction.CHANGED_ROW, row=row, **place))
        repository = PhotosRepository(connection)
        repository.remove_many(removed)
        if added:
            states = [state for _, state in added]
            connection.execute(insert(photos), [row_values(photos, state, now=now) for state in states])
            restore_foreign_values(connection, photos, states)
        repository.update_many(
            {"id": photo_id} | row_values(photos, {name: state[name] for name in names - _RELATED}, now=now)
            for photo_id, state, names in differing
        )

        def new(*keys: str) -> list[_State]:
            return added + [(photo_id, state) for photo_id, state, names in differing if names.intersection(keys)]

        _write_tags(connection, new(TAG_IDS, "project_id"))
        _write_derivatives(connection, new(DERIVATIVES))
        _write_originals(connection, new(ORIGINALS))
        if self._new_tags:
            is_linked = exists().where(photo_tags.c.tag_id == tags.c.id)
            unneeded = sorted(self._new_tags - removal_refusals(connection, tags, sorted(self._new_tags)).keys())
            connection.execute(delete(tags).where(tags.c.id.in_(unneeded), ~is_linked))
        return changes


def current_projects(connection: Connection, photo_ids: Sequence[int]) -> set[int]:
    """Return the current projects of these photos."""
    return set(connection.execute(select(photos.c.project_id).where(photos.c.id.in_(photo_ids))).scalars())


class TakenNames:
    """Finds photos that already have the base name in the project, or the `manifest_id`, that an undo would restore."""

    def __init__(self, connection: Connection, wanted: Sequence[Mapping[str, Any]]) -> None:
        of_names = select(photos.c.id, photos.c.project_id, photos.c.filename).where(
            photos.c.project_id.in_(sorted({state["project_id"] for state in wanted})),
            is_among(photos.c.filename, {stored_value(state["filename"]) for state in wanted}),
        )
        self._by_name: dict[tuple[int, str], set[int]] = {}
        for photo_id, project_id, name in connection.execute(of_names):
            self._by_name.setdefault((project_id, name), set()).add(photo_id)
        manifest_ids = {stored_value(state["manifest_id"]) for state in wanted} - {None}
        of_ids = select(photos.c.manifest_id, photos.c.id).where(is_among(photos.c.manifest_id, manifest_ids))
        self._by_manifest_id: dict[str, int] = dict(connection.execute(of_ids).all()) if manifest_ids else {}

    def is_name_taken(self, state: Mapping[str, Any], *, but_for: int) -> bool:
        """Return whether a photo other than `but_for` has the project and the base name of a wanted state."""
        place = state["project_id"], stored_value(state["filename"])
        return bool(self._by_name.get(place, set()) - {but_for})

    def is_manifest_id_taken(self, state: Mapping[str, Any], *, but_for: int) -> bool:
        """Return whether a photo other than `but_for` has the `manifest_id` of a wanted state."""
        known = stored_value(state["manifest_id"])
        return known is not None and self._by_manifest_id.get(known, but_for) != but_for


def _write_tags(connection: Connection, states: Sequence[_State]) -> None:
    if not states:
        return
    wanted: dict[tuple[int, str], int] = {}
    for _, state in states:
        for tag_id, name in zip(state[TAG_IDS], state[TAGS], strict=True):
            wanted[state["project_id"], stored_value(name)] = tag_id
    known = _known_tags(connection, wanted)
    known |= add_tags(connection, [(key, tag_id) for key, tag_id in wanted.items() if key not in known])
    connection.execute(delete(photo_tags).where(photo_tags.c.photo_id.in_([photo_id for photo_id, _ in states])))
    links = [
        {"photo_id": photo_id, "tag_id": known[state["project_id"], stored_value(name)]}
        for photo_id, state in states
        for name in state[TAGS]
    ]
    if links:
        connection.execute(insert(photo_tags), links)


def _known_tags(connection: Connection, wanted: Mapping[tuple[int, str], int]) -> dict[tuple[int, str], int]:
    statement = select(tags.c.project_id, tags.c.name, tags.c.id).where(
        tags.c.project_id.in_(sorted({project_id for project_id, _ in wanted})),
        is_among(tags.c.name, {name for _, name in wanted}),
    )
    return {(project_id, name): tag_id for project_id, name, tag_id in connection.execute(statement)}


def _write_derivatives(connection: Connection, states: Sequence[_State]) -> None:
    kept = [
        _record(Derivative, {**known, "photo_id": photo_id, "kind": kind})
        for photo_id, state in states
        for kind, known in state[DERIVATIVES].items()
    ]
    repository = DerivativesRepository(connection)
    repository.forget([photo_id for photo_id, _ in states])
    repository.save_many(kept)


def _write_originals(connection: Connection, states: Sequence[_State]) -> None:
    repository = OriginalsRepository(connection)
    known = repository.get_many([photo_id for photo_id, _ in states])
    repository.forget(
        (photo_id, name) for photo_id, state in states for name in known[photo_id] if name not in state[ORIGINALS]
    )
    kept = [
        _record(Original, {**found, "photo_id": photo_id, "name": name})
        for photo_id, state in states
        for name, found in state[ORIGINALS].items()
    ]
    repository.save_many(kept)


def _record(kind: type[_Row], known: Mapping[str, Any]) -> _Row:
    # The journal may be older than the schema, so columns that no longer exist are left out.
    values: dict[str, Any] = {name: known.get(name) for name in kind.__dataclass_fields__}
    for name, value in values.items():
        if isinstance(value, str) and name.endswith(("_at", "_since")):
            values[name] = parse_timestamp(value)
    return kind(**values)
