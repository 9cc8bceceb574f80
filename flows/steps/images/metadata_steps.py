"""The steps that read metadata of photos into their rows: `metadata` for items, `regenerate_metadata` for projects.

`add_metadata` decides from which file of a photo its date and camera are taken, and which values of its row are
overwritten. `flows.imaging.metadata` reads one file, and decides which of its dates counts.
"""

from dataclasses import replace
from functools import partial

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.imaging.errors import DecodingUnavailable, ImageMissing, ImagingError
from flows.imaging.metadata import PhotoMetadata
from flows.steps.images.observation import OriginalComparison, first_seen
from flows.steps.images.photo_processing import PhotoResult, process_items, process_projects
from flows.steps.targets.photo_files import PhotoTask
from storage.photos.derivatives import METADATA, merged_meta


@step("metadata", unit="items", modifies_files=False)
def metadata(ctx: StepContext) -> None:
    """Read the date, orientation, camera and size of each photo, and write them to its row."""
    process_items(ctx, partial(_work, OriginalComparison(ctx)))


@step("regenerate_metadata", unit="projects", modifies_files=False)
def regenerate_metadata(ctx: StepContext) -> None:
    """Read the metadata of all photos of the projects again, and write them to the rows."""
    process_projects(ctx, partial(_work, OriginalComparison(ctx)))


def _work(comparison: OriginalComparison, task: PhotoTask) -> PhotoResult:
    result = PhotoResult()
    add_metadata(result, task, comparison)
    if not result.counts and result.error is None:
        result.counts.append(("unchanged", task.photo.filename))
    return result


def add_metadata(
    result: PhotoResult, task: PhotoTask, comparison: OriginalComparison, found: PhotoMetadata | None = None
) -> None:
    """Read the metadata of a photo from its first source file, and add the changes of its rows to the result.

    If the first file lacks the camera or the date, these values are read from the next files. If the disk fails to read
    one of them, no value is cleared, and a later run reads the metadata again. If the result already has a row for the
    first file, that row is up to date. `found` has the metadata of the first file, if they have just been read.

    Raises:
        SkipItem: the photo has no file.
        FileLeftAlone: the file of the photo must not be used, for example because it is a symlink.
        ImageMissing, DecodingUnavailable, OSError: the image could not be read; a repetition may succeed.
    """
    first, *others = task.files.sources()
    original = result.originals.get(first.name)
    try:
        path = task.folder.original(first.name)
        if original is None:
            original = comparison.compare(task.photo.id, first, path, task.originals.get(first.name))
        if found is None:
            found = comparison.images.read_metadata(path)
    except (ImageMissing, DecodingUnavailable):
        raise
    except ImagingError as error:
        original, found = original or first_seen(task.photo.id, first), None
        unusable = comparison.why_unusable(error, first, task.folder.path / first.name)
        result.error = result.error or unusable
    result.originals[first.name] = original
    known = task.metadata_source
    is_current = known is not None and known.is_made_from(original)
    is_complete = True
    for source in others:
        if found is None or (found.taken_at is not None and found.make is not None):
            break
        # Photo editors often drop the metadata of the camera from the JPEG, but the RAW file still has it.
        try:
            other = comparison.images.read_metadata(task.folder.original(source.name))
        except DecodingUnavailable:
            raise
        except ImagingError:
            continue
        except OSError:
            # The file may have values that the row has from it, so no value is cleared, and a later run reads it again.
            is_complete = False
            continue
        found = replace(
            found,
            taken_at=found.taken_at or other.taken_at,
            make=found.make or other.make,
            model=found.model or other.model,
        )
    if is_complete and not is_current:
        result.derivatives.append(comparison.made_from(original, METADATA))
    if found is not None:
        # Only values that photojobs wrote are cleared. Another program may have written the other values.
        _add_values(result, task, found, clears=is_complete and known is not None and not is_current)


def _add_values(result: PhotoResult, task: PhotoTask, found: PhotoMetadata, *, clears: bool) -> None:
    photo = task.photo
    wanted = {"date_time_original": found.taken_at, "orientation": found.orientation}
    values = {name: value for name, value in wanted.items() if clears or value is not None}
    owned = {name: getattr(found, name) for name in ("make", "model", "width", "height", "size_bytes")}
    result.values |= values
    result.meta = {name: value for name, value in owned.items() if clears or value is not None}
    has_new_values = any(getattr(photo, name) != value for name, value in values.items())
    if has_new_values or merged_meta(photo.meta_json, result.meta) not in (photo.meta_json, photo.meta_json or {}):
        result.counts.append(("metadata changed", photo.filename))
