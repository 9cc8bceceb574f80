"""Makes the contact sheet of a report: thumbnails of photographs, small enough for a page.

`storage.reports.task_history.changed_photos` chooses the photographs.
"""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.imaging.errors import ImagingError
from flows.imaging.isolation.image_processing import ImagePool
from flows.imaging.limits import ImageOptions, Rendition
from storage.library.errors import LibraryError
from storage.library.paths import Library
from storage.reports.task_history import ChangedPhoto

logger = logging.getLogger("photojobs.report")

#: The number of photographs on the sheet, unless the caller gives another.
DEFAULT_PHOTOS = 60

#: The size and quality of a picture on the sheet; a picture has about 6 kB.
MINIATURE = Rendition(long_edge_pixels=240, quality=55, effort=4)

#: The largest size of a picture. A larger picture is left out.
MAX_PICTURE_BYTES = 40_000
#: The largest size of all pictures together. A picture that would exceed this sum is left out.
MAX_SHEET_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A photo in a contact sheet.

    `picture` is a data URL; None if the photo has no readable thumbnail, or if the picture or the whole sheet would be
    too large.
    """

    photo: ChangedPhoto
    picture: str | None

    @property
    def change(self) -> str:
        """The change of the photo in one word: new, moved or changed."""
        if self.photo.is_new:
            return "new"
        return "moved" if self.photo.is_moved else "changed"


def contact_sheet(library: Library, photos: Sequence[ChangedPhoto]) -> Sequence[Frame]:
    """Return the photos in the given order, with their current thumbnails.

    Thumbnails are decoded in a separate process, as originals are, because another program can replace their files.
    """
    if not photos:
        return ()
    frames: list[Frame] = []
    left_bytes = MAX_SHEET_BYTES
    options = ImageOptions(thumbnail=MINIATURE)
    with ImagePool(processes=1, options=options) as pool, tempfile.TemporaryDirectory(prefix="photojobs-") as folder:
        for photo in photos:
            content = _miniature(pool, library, photo, Path(folder) / "miniature.webp")
            if content is not None and len(content) > min(MAX_PICTURE_BYTES, left_bytes):
                content = None
            left_bytes -= len(content or b"")
            picture = None if content is None else "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
            frames.append(Frame(photo=photo, picture=picture))
    return frames


def _miniature(pool: ImagePool, library: Library, photo: ChangedPhoto, target: Path) -> bytes | None:
    try:
        thumbnail = library.project(photo.tenant_id, photo.project_folder).thumbnail(photo.name)
        target.unlink(missing_ok=True)
        pool.make_derivatives(thumbnail, thumbnail=target)
        return target.read_bytes()
    except (ImagingError, LibraryError, OSError) as error:
        logger.info("%s: the contact sheet has no picture of this photo: %s", photo.name, error)
        return None
