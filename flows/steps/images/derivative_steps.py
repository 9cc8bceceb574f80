"""The steps that make thumbnails and previews: `generate_derivatives` and `upload_postprocess`.

`_DerivativeWork` decides for one photo which derivatives are made again. For a whole project,
`storage.comparison.derivative_scan` decides which are outdated; the step `derivative_validation` uses it.
`SOURCE_ORDER` in `storage.library.naming.kinds` decides from which file of a photo they are made.
"""

import os
from dataclasses import replace
from pathlib import Path

from flows.errors import SkipItem, named, reason_of
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.imaging.errors import DecodingUnavailable, ImageMissing, ImagingError
from flows.imaging.metadata import PhotoMetadata
from flows.steps.images.metadata_steps import add_metadata
from flows.steps.images.observation import OriginalComparison, fingerprint_of, first_seen, with_fingerprint
from flows.steps.images.photo_processing import PhotoResult, process_items
from flows.steps.targets.photo_files import PhotoTask
from storage.library.errors import UnsafePath
from storage.library.naming.kinds import FileKind
from storage.photos.derivatives import UNKNOWN, DerivativeKind
from storage.photos.originals import Original

GENERATED = "generated"
FAILED = "failed"
MISSING = "missing"
NOT_SUPPORTED = "not_supported"


@step("generate_derivatives", unit="items", modifies_files=False)
def generate_derivatives(ctx: StepContext) -> None:
    """Make the thumbnail and the preview of each photo."""
    comparison, force = OriginalComparison(ctx), _is_forced(ctx)
    process_items(ctx, lambda task: _DerivativeWork(task, comparison, force=force).run())


@step("upload_postprocess", unit="items", modifies_files=False)
def upload_postprocess(ctx: StepContext) -> None:
    """Make the thumbnail and the preview of each photo, read its metadata, and update its keep flags."""
    comparison, force = OriginalComparison(ctx), _is_forced(ctx)

    def work(task: PhotoTask) -> PhotoResult:
        derivatives = _DerivativeWork(task, comparison, force=force, with_metadata=True)
        result = derivatives.run()
        add_metadata(result, task, comparison, derivatives.metadata)
        result.values |= keep_flag_values(task)
        return result

    process_items(ctx, work)


def _is_forced(ctx: StepContext) -> bool:
    return bool(ctx.payload.get("force", ctx.params.get("force", False)))


def keep_flag_values(task: PhotoTask) -> dict[str, int]:
    """Return the availability and keep flags of a photo that agree with its files on disk.

    The keep flag of a new file becomes 1, and that of a kind which the photo has never had becomes 0. Other keep flags
    stay: a file whose keep flag a user has cleared stays marked for deletion, also if it was missing for some time. For
    whole projects, `write_availability` in `storage.photos.availability` decides the flags of new files and of files
    that come back in the same way.
    """
    photo, files = task.photo, task.files
    untouchable = {file.kind for file in files.untouchable}
    wanted: dict[str, int] = {}
    for kind in (FileKind.JPG, FileKind.RAW, FileKind.OTHER):
        if kind in untouchable:
            continue
        was_there, is_there = bool(getattr(photo, f"{kind}_available")), files.has(kind)
        wanted[f"{kind}_available"] = int(is_there)
        known = [one for one in task.originals.values() if one.kind == kind]
        is_new = is_there and not was_there and all(one.missing_since is None for one in known)
        if kind is not FileKind.OTHER and (is_new or not (is_there or known)):
            wanted[f"keep_{kind}"] = int(is_there)
    return wanted


class _DerivativeWork:
    """The work on the thumbnail and the preview of one photo. It writes only files, and may run in any thread.

    Attributes:
        metadata: the metadata of the source file; None if they were not requested or could not be read, or if the
            file was not decoded.
    """

    def __init__(
        self, task: PhotoTask, comparison: OriginalComparison, *, force: bool, with_metadata: bool = False
    ) -> None:
        self.metadata: PhotoMetadata | None = None
        self._task = task
        self._comparison = comparison
        self._force = force
        self._with_metadata = with_metadata
        self._result = PhotoResult()
        self._sources = task.files.sources()
        self._statuses: dict[DerivativeKind, str] = {}

    def run(self) -> PhotoResult:
        """Make the derivatives that are missing, failed or outdated, or all with `force`. Hash each image.

        A failure of a file that another program may still be writing is not final: a later run tries again.

        Raises:
            ImageMissing, DecodingUnavailable, LibraryError, OSError: the image could not be read; a repetition may
                succeed.
        """
        try:
            self._make_needed()
        except (ImageMissing, DecodingUnavailable):
            raise
        except (ImagingError, UnsafePath) as error:
            self._fail(error)
        else:
            self._hash_all()
        self._result.values = {f"{kind}_status": status for kind, status in self._statuses.items()}
        if not self._statuses:
            self._result.counts.append(("unchanged", self._task.photo.filename))
        return self._result

    @property
    def _original(self) -> Original:
        return self._result.originals[self._sources[0].name]

    @_original.setter
    def _original(self, original: Original) -> None:
        self._result.originals[original.name] = original

    def _make_needed(self) -> None:
        photo, folder, source = self._task.photo, self._task.folder, self._sources[0]
        path = folder.original(source.name)
        self._original = self._comparison.compare(photo.id, source, path, self._task.originals.get(source.name))
        paths = {
            DerivativeKind.THUMBNAIL: folder.thumbnail(photo.filename),
            DerivativeKind.PREVIEW: folder.preview_image(photo.filename),
        }
        needed = {kind: place for kind, place in paths.items() if self._force or self._is_needed(kind, place)}
        if needed:
            self._make(path, needed)

    def _is_needed(self, kind: DerivativeKind, path: Path) -> bool:
        if getattr(self._task.photo, f"{kind}_status") != GENERATED:
            return True
        try:
            written = path.lstat()
        except FileNotFoundError:
            return True
        if written.st_size == 0:
            return True
        known = self._task.known.get(kind)
        if known is not None:
            return not known.is_made_from(self._original)
        # A derivative that another program made is current if it is not older than its original.
        return written.st_mtime_ns < self._sources[0].mtime_ns

    def _make(self, source: Path, paths: dict[DerivativeKind, Path]) -> None:
        images, result, name = self._comparison.images, self._result, self._task.photo.filename
        self._statuses = dict.fromkeys(paths, FAILED)
        anew = [kind for kind, path in paths.items() if not os.path.lexists(path)]
        known = fingerprint_of(self._original)
        made = images.make_derivatives(
            source,
            thumbnail=paths.get(DerivativeKind.THUMBNAIL),
            preview=paths.get(DerivativeKind.PREVIEW),
            with_hash=known is None or known.content_hash is None,
            with_metadata=self._with_metadata,
        )
        self.metadata = made.metadata
        used = replace(made.source, content_hash=None)
        if made.source.content_hash is not None:
            # If only the modification time changes, a later run can see by the hash that the contents are the same. So
            # the hash is stored.
            known = made.source
            self._original = with_fingerprint(self._original, known, now=self._comparison.now)
        self._statuses = dict.fromkeys(paths, made.status)
        if made.status == NOT_SUPPORTED:
            reason = made.reason or "cannot be decoded by this installation"
            result.counts.append(("not supported", named(name, reason)))
            self._original = self._comparison.with_hash(self._original, source)
            result.derivatives = [self._comparison.made_from(self._original, kind) for kind in paths]
            return
        if known is None or known.content_hash is None or replace(known, content_hash=None) != used:
            known = images.take_fingerprint(source)
            self._original = with_fingerprint(self._original, known, now=self._comparison.now)
        is_same = replace(known, content_hash=None) == used
        for kind in paths:
            row = self._comparison.made_from(self._original, kind)
            written = made.thumbnail if kind is DerivativeKind.THUMBNAIL else made.preview
            if written is not None:
                row = replace(row, width=written.width, height=written.height, size_bytes=written.size_bytes)
            result.derivatives.append(row if is_same else replace(row, source_hash=UNKNOWN))
            result.counts.append((f"{kind}s made", name))
        result.made_anew = [str(kind) for kind in anew]
        result.has_written_files = True

    def _fail(self, error: Exception) -> None:
        source, result = self._sources[0], self._result
        statuses = self._statuses or dict.fromkeys(DerivativeKind, FAILED)
        original = result.originals.setdefault(source.name, first_seen(self._task.photo.id, source))
        rows = [self._comparison.made_from(original, kind) for kind in statuses]
        result.error = self._comparison.why_unusable(error, source, self._task.folder.path / source.name)
        if isinstance(result.error, SkipItem):
            statuses = dict.fromkeys(statuses, MISSING)
            rows = [replace(row, source_hash=UNKNOWN) for row in rows]
        self._statuses, result.derivatives = statuses, rows

    def _hash_all(self) -> None:
        task, originals = self._task, self._result.originals
        for file in self._sources:
            try:
                path = task.folder.original(file.name)
                seen = originals.get(file.name)
                if seen is None:
                    seen = self._comparison.compare(task.photo.id, file, path, task.originals.get(file.name))
                originals[file.name] = self._comparison.with_hash(seen, path)
            except (ImagingError, UnsafePath, OSError) as error:
                self._result.counts.append(("originals not hashed", reason_of(error)))
