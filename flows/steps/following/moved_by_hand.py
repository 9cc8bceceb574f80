"""Updates the rows of photos whose files a user moved, and moves the derivatives of these photos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from flows.handlers.announced_moves import MoveGroup
from flows.handlers.photo_files_change import PhotoFilesChange
from flows.handlers.step_context import StepContext
from flows.steps.following.arrival_pairs import Arrival, source_order
from flows.steps.images.observation import first_seen
from flows.steps.moving.image_move import lacks_derivatives, moved_photo
from flows.steps.targets.journal_changes import relative_path
from flows.steps.targets.photo_files import PhotoFiles, file_moves, find_files, remove_stray_derivatives
from storage.comparison.part_comparison import NewName
from storage.comparison.reconciliation import known_names
from storage.history.journal import FileAction, FileChange
from storage.library.paths import ProjectFolder
from storage.library.scan import look_at
from storage.photos.availability import Availability, write_availability
from storage.photos.original_search import KnownOriginal
from storage.photos.originals import OriginalsRepository, name_after_rename
from storage.photos.photo_moves import move_rows
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Project


@dataclass(slots=True, kw_only=True)
class _Following(MoveGroup):
    """A photo whose row gets the new place of its file, because a user moved the file."""

    arrival: Arrival
    original: KnownOriginal
    photo: Photo
    left: PhotoFiles


def follow(
    ctx: StepContext, source: Project, target: Project, pairs: Sequence[tuple[Arrival, KnownOriginal]]
) -> list[Arrival]:
    """Update the rows of photos of `source` whose files are in `target` now, or have another name.

    The pairs are arrivals with the missing files that they match. The caller must claim both projects. A pair whose
    photo or file has changed since the matching is left for the next run.

    Returns:
        The arrivals that are new photos, because the matched photo still has an equally good file at its old place.

    Raises:
        FolderMissing, FolderUnreadable: a folder cannot be read, so a file that was not found may still exist.
    """
    fresh_source, fresh_target = ctx.reload(source), ctx.reload(target)
    if fresh_source is None or fresh_target is None or fresh_target.is_archived:
        return []
    places = ctx.folder_of(fresh_source), ctx.folder_of(fresh_target)
    current = _current(ctx, fresh_source, fresh_target, places[1], pairs)
    left = find_files(ctx, places[0], list(current.values())) if current and places[0].exists() else {}
    following, new = [], []
    for arrival, original in pairs:
        photo = current.get(original.photo_id)
        if photo is None:
            continue
        own = left.get(photo.id, PhotoFiles())
        if _has_better(own, original):
            new.append(arrival)
            continue
        moves = file_moves(PhotoFiles(), places[0], photo.filename, places[1], arrival.new.name)
        ids = source.id, target.id, photo.id
        following.append(_Following(moves, *ids, arrival=arrival, original=original, photo=photo, left=own))
    _Followings(ctx, following, fresh_source, fresh_target).run()
    return new


def _current(
    ctx: StepContext,
    source: Project,
    target: Project,
    folder: ProjectFolder,
    pairs: Sequence[tuple[Arrival, KnownOriginal]],
) -> dict[int, Photo]:
    """Return, by id, the photos of the pairs that have not changed since they were matched.

    In such a pair, the photo has the same project and name, and the file is unchanged and still has no row.
    """
    with ctx.read() as connection:
        taken = known_names(connection, target.id, [arrival.new.name for arrival, _ in pairs])
        photos = PhotosRepository(connection).get_many([original.photo_id for _, original in pairs])
    by_id = {photo.id: photo for photo in photos if photo.project_id == source.id}
    return {
        photo.id: photo
        for arrival, original in pairs
        if (photo := by_id.get(original.photo_id)) is not None
        and photo.filename == original.base_name
        and arrival.new.name not in taken
        and look_at(folder, arrival.file.name) == arrival.file
    }


def _has_better(left: PhotoFiles, original: KnownOriginal) -> bool:
    """Return whether the picture has a source that did not move and is at least as good as the moved file."""
    images = [*left.images, *(file for file in left.untouchable if file.kind.is_photo)]
    return any(source_order(str(file.kind)) <= source_order(original.kind) for file in images)


class _Followings(PhotoFilesChange[_Following]):
    """Moves the derivatives of a batch of photos, and writes the new places of the photos."""

    action = FileAction.FOLLOWED
    enqueues = True

    def __init__(self, ctx: StepContext, groups: Sequence[_Following], source: Project, target: Project) -> None:
        super().__init__(ctx, groups, ctx.folder_of(target))
        self._source = source
        self._target = target

    def move(self, group: _Following) -> None:
        remove_stray_derivatives(self.folder, group.arrival.new.name)
        super().move(group)

    def changes(self, group: _Following, row: dict[str, Any] | None) -> Iterator[FileChange]:
        yield FileChange(
            action=self.action,
            source=f"{self.ctx.tenant_id}/{self._source.project_folder}/{group.original.name}",
            target=relative_path(self.folder, self.folder.original(group.arrival.file.name)),
            project_id=group.project_id,
            photo_id=group.photo_id,
            size_bytes=group.original.size_bytes,
            row=row,
        )

    def write(self, connection: Connection) -> None:
        moved = [moved_photo(one.photo, one.arrival.new.name, one) for one in self.done]
        move_rows(connection, moved, project_id=self._target.id, now=self.ctx.now())
        _write_originals(OriginalsRepository(connection), self.done)
        found = [_availability(one.photo.id, one.arrival.new) for one in self.done]
        write_availability(connection, found, now=self.ctx.now())
        lacking = [one.id for one in moved if lacks_derivatives(one.thumbnail_status, one.preview_status)]
        self.ctx.enqueue("generate_derivatives", photo_ids=lacking, connection=connection)

    def report(self) -> None:
        report = self.ctx.report
        for one in self.done:
            old = f"{self._source.project_name}/{one.photo.filename}"
            new = f"{self._target.project_name}/{one.arrival.new.name}"
            report.count("followed", example=f"{old} → {new}")
            for file in one.left.all():
                name = f"{self._source.project_name}/{file.printable_name}"
                report.count(
                    "files left behind", example=f"{name}: stays in its folder, although {old} was moved to {new}"
                )


def _write_originals(originals: OriginalsRepository, done: Sequence[_Following]) -> None:
    """Update the rows of the files. The spelling of the extension may differ at the new place."""
    known = originals.get_many([one.photo.id for one in done])
    outdated, found = [], []
    for one in done:
        file = one.arrival.file
        name = name_after_rename(one.original.name, one.photo.filename, one.arrival.new.name)
        original = known[one.photo.id].get(name)
        if original is None:
            continue
        if name != file.name:
            outdated.append((one.photo.id, name))
        now = first_seen(one.photo.id, file)
        found.append(replace(original, name=now.name, kind=now.kind, mtime_ns=now.mtime_ns, ctime_ns=now.ctime_ns))
    originals.forget(outdated)
    originals.save_many(found)


def _availability(photo_id: int, new: NewName) -> Availability:
    return Availability(photo_id=photo_id, filename=new.name, jpg=new.jpg, raw=new.raw, other=new.other)
