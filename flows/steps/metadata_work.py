"""What an original says about itself, and what of its photo's row follows from that. Writes nothing."""

from __future__ import annotations

from typing import Any

from flows.errors import SkipItem
from flows.imaging.errors import ImageMissing, ImagingError, PoolClosed
from flows.imaging.isolation import ImageProcessing
from flows.imaging.metadata import PhotoMetadata
from flows.steps.derivative_work import UnusableImage
from flows.steps.photo_files import PhotoFiles
from storage.library import ProjectFolder
from storage.records import Photo


def read_photo_metadata(folder: ProjectFolder, files: PhotoFiles, *, images: ImageProcessing) -> PhotoMetadata:
    """The metadata of a photo: of its JPEG, else its other file, else its RAW; the camera and date of any of them.

    Raises:
        SkipItem: the photo has no file.
        FileLeftAlone: what it has is a symlink or the like.
        UnusableImage: the first of its files is damaged or no image.
        ImageMissing, PoolClosed, OSError: nothing is known of the image; a repetition may succeed.
    """
    sources = files.sources()
    if not sources:
        files.refuse_untouchable()
        raise SkipItem("no file of it is on disk")
    try:
        found = images.read_metadata(folder.original(sources[0].name))
    except (ImageMissing, PoolClosed):
        raise
    except ImagingError as error:
        raise UnusableImage(str(error)) from error
    for source in sources[1:]:
        if found.taken_at is not None and found.make is not None:
            break
        # Programs that edit photos often drop what the camera wrote; the RAW still has it.
        try:
            found = _completed(found, images.read_metadata(folder.original(source.name)))
        except PoolClosed:
            raise
        except ImagingError:
            continue
    return found


def metadata_values(photo: Photo, found: PhotoMetadata) -> dict[str, Any]:
    """The columns of the photo's row that are to become something else than they are.

    What the file does not say stays as it is, and so do keys of `meta_json` that are others'.
    """
    wanted: dict[str, Any] = {}
    if found.taken_at is not None:
        wanted["date_time_original"] = found.taken_at
    if found.orientation is not None:
        wanted["orientation"] = found.orientation
    if photo.meta_json is None or isinstance(photo.meta_json, dict):
        own = {
            "make": found.make,
            "model": found.model,
            "width": found.width,
            "height": found.height,
            "size_bytes": found.size_bytes,
        }
        known = {name: value for name, value in own.items() if value is not None}
        wanted["meta_json"] = {**(photo.meta_json or {}), **known}
    return {name: value for name, value in wanted.items() if getattr(photo, name) != value}


def _completed(found: PhotoMetadata, other: PhotoMetadata) -> PhotoMetadata:
    return PhotoMetadata(
        taken_at=found.taken_at or other.taken_at,
        orientation=found.orientation,
        make=found.make or other.make,
        model=found.model or other.model,
        width=found.width,
        height=found.height,
        size_bytes=found.size_bytes,
    )
