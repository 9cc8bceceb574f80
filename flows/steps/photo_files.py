"""The items of a job project by project, and the files on disk that belong to each photo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from flows.errors import ItemsFailed, PermanentStepError, SkipItem
from flows.job_targets import TargetItem
from flows.step_context import StepContext
from storage.library import FileKind, ProjectFolder, ScannedFile, name_key, scan
from storage.library.names import is_decodable
from storage.reconciliation import known_names
from storage.records import Photo, Project

_SOURCE_ORDER = (FileKind.JPG, FileKind.OTHER, FileKind.RAW)


class FileLeftAlone(PermanentStepError):
    """A file of a photo is a symlink or otherwise not ours to touch, so nothing of the photo was changed."""


@dataclass(slots=True)
class PhotoFiles:
    """What lies on disk of one photo, each list in the order of the names.

    Attributes:
        images: JPEG, RAW and other files.
        sidecars: what other programs keep beside them.
        untouchable: files that are there but must be left alone, such as symlinks.
    """

    images: list[ScannedFile] = field(default_factory=list)
    sidecars: list[ScannedFile] = field(default_factory=list)
    untouchable: list[ScannedFile] = field(default_factory=list)

    def of_kind(self, kind: FileKind) -> list[ScannedFile]:
        """The images of one kind."""
        return [file for file in self.images if file.kind is kind]

    def has(self, kind: FileKind) -> bool:
        """Whether there is an image of that kind."""
        return any(file.kind is kind for file in self.images)

    def add(self, file: ScannedFile) -> None:
        """Put a file where it belongs; what is neither image nor sidecar is left out."""
        if not (file.kind.is_photo or file.kind is FileKind.SIDECAR):
            return
        if file.problem is not None:
            self.untouchable.append(file)
        elif file.kind.is_photo:
            self.images.append(file)
        else:
            self.sidecars.append(file)

    def sources(self) -> list[ScannedFile]:
        """The images in the order in which derivatives and metadata are taken from them: JPEG, other, RAW."""
        return [file for kind in _SOURCE_ORDER for file in self.of_kind(kind)]

    def refuse_untouchable(self) -> None:
        """Raise `FileLeftAlone` where a file of the photo cannot be worked with."""
        for file in self.untouchable:
            raise FileLeftAlone(
                f"{file.printable_name}: {file.problem}. Replace it by a regular file, or take it out of the library."
            )


def find_files(ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]) -> dict[int, PhotoFiles]:
    """The files of these photos of one project by photo id, from one directory scan; every photo has an entry.

    A file belongs to the photo with its base name, spelled exactly so; where there is none, to the one whose name
    differs only in case or Unicode form.

    Raises:
        FolderMissing, FolderUnreadable: nothing may be concluded about any of the files.
    """
    found = {photo.id: PhotoFiles() for photo in photos}
    exactly = {photo.filename: photo for photo in photos}
    by_key = {name_key(photo.filename): photo for photo in reversed(photos)}
    files = sorted(scan(folder, base_keys=by_key.keys()), key=lambda file: file.name)
    others = {file.base_name for file in files} - exactly.keys()
    if others:
        with ctx.read() as connection:
            others -= known_names(connection, photos[0].project_id, sorted(filter(is_decodable, others)))
    for file in files:
        photo = exactly.get(file.base_name)
        if photo is None and file.base_name in others:
            photo = by_key[name_key(file.base_name)]
        if photo is not None:
            found[photo.id].add(file)
    return found


def find_files_named(folder: ProjectFolder, names: Iterable[str]) -> dict[str, PhotoFiles]:
    """The files whose base names are exactly these; raises as `find_files` does."""
    found = {name: PhotoFiles() for name in names}
    keys = {name_key(name) for name in found}
    for file in sorted(scan(folder, base_keys=keys), key=lambda file: file.name):
        if file.base_name in found:
            found[file.base_name].add(file)
    return found


def by_project(items: Sequence[TargetItem]) -> list[tuple[Project, list[TargetItem]]]:
    """The items of each project, in the order of the projects' ids."""
    ordered = sorted(items, key=lambda item: (item.project.id, item.id))
    return [
        (group[0].project, group)
        for group in (list(members) for _, members in groupby(ordered, key=lambda item: item.project.id))
    ]


def current_folder(ctx: StepContext, project: Project) -> ProjectFolder:
    """The folder that a project has now, after waiting for it.

    Raises:
        SkipItem: the project has been removed or archived meanwhile.
        UnsafePath: a symlink or a file stands in the folder's place.
    """
    fresh = ctx.reload(project)
    if fresh is None or fresh.is_archived:
        raise SkipItem("the project has been archived or removed meanwhile")
    return ctx.folder_of(fresh)


def record(ctx: StepContext, item: TargetItem, error: Exception | None = None) -> None:
    """End an item as done, or as what the error says."""
    with ctx.item(item):
        if error is not None:
            raise error


def raise_failures(errors: Sequence[Exception], *, tried: int) -> None:
    """Raise what the failures of a project's photos amount to, if there are any.

    Raises:
        PermanentStepError: no repetition mends any of them.
        ItemsFailed: a repetition may mend at least one.
    """
    if errors:
        message = f"{len(errors)} of {tried} photos failed; first: {errors[0]}"
        is_permanent = all(isinstance(error, PermanentStepError) for error in errors)
        raise PermanentStepError(message) if is_permanent else ItemsFailed(message)


def relative_path(folder: ProjectFolder, path: Path) -> str:
    """The path as the journal has it: below the library's root."""
    return path.relative_to(folder.library.root).as_posix()


def has_moved(photo: Photo, fresh: Photo | None) -> bool:
    """Whether a photo's row has gone, or stands for other files, since it was read."""
    return fresh is None or (fresh.project_id, fresh.filename) != (photo.project_id, photo.filename)
