"""Thumbnails of photographs, small enough for a page."""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.imaging.errors import ImagingError
from flows.imaging.isolation import ImagePool
from flows.imaging.limits import ImageOptions, Rendition
from storage.library.errors import LibraryError
from storage.library.paths import Library
from storage.reports.task_history import ChangedPhoto

logger = logging.getLogger("photojobs.report")

#: Longest edge in pixels, and quality: about 6 kB each.
MINIATURE = Rendition(long_edge_pixels=240, quality=55, effort=4)

#: The largest size in bytes of one picture, and of all of them; larger ones are left out.
MAX_PICTURE_BYTES = 40_000
MAX_SHEET_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A photo in a contact sheet; `picture` is a data URL, or None if the photo has no thumbnail."""

    photo: ChangedPhoto
    picture: str | None

    @property
    def change(self) -> str:
        """The change of the photo in one word."""
        if self.photo.is_new:
            return "new"
        return "moved" if self.photo.is_moved else "changed"


def contact_sheet(library: Library, photos: Sequence[ChangedPhoto]) -> Sequence[Frame]:
    """The photos in order, with their current thumbnails.

    Thumbnails are decoded like originals, in a separate process, because another program can replace their files.
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
            frames.append(Frame(photo=photo, picture=None if content is None else _data_url(content)))
    return frames


def _miniature(pool: ImagePool, library: Library, photo: ChangedPhoto, target: Path) -> bytes | None:
    try:
        thumbnail = library.project(photo.tenant_id, photo.project_folder).thumbnail(photo.name)
        target.unlink(missing_ok=True)
        pool.make_derivatives(thumbnail, thumbnail=target)
        return target.read_bytes()
    except (ImagingError, LibraryError, OSError) as error:
        logger.info("%s: no picture: %s", photo.name, error)
        return None


def _data_url(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
