"""Image processing for plans: it reads images from the real library, and checks headers instead of decoding images.

With `photojobs plan --thorough`, the images are decoded.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from flows.imaging.fingerprint import Fingerprint, SourceReading
from flows.imaging.isolation.image_processing import ImageProcessing, Wanted
from flows.imaging.metadata import PhotoMetadata
from flows.imaging.thumbnail_and_preview import Derivatives, WrittenImage
from storage.library.atomic_write import write_atomically
from storage.library.paths import Library
from storage.library.scan import storable_ns

#: The content of a derivative in the shadow.
_PLACEHOLDER = b"planned"


class PlannedImages(ImageProcessing):
    """Image processing for a shadow library. Derivatives are placeholders unless the plan is thorough.

    Args:
        images: the image processing that reads the originals.
        library: the shadow library.
        is_thorough: whether to decode every image and make its derivatives in the shadow. This takes as long as a run.
    """

    def __init__(self, images: ImageProcessing, library: Library, *, is_thorough: bool) -> None:
        self._images = images
        self._library = library
        self._is_thorough = is_thorough

    def make_derivatives(self, source: Path, **wanted: Unpack[Wanted]) -> Derivatives:
        """Make derivatives, or only check the header if the plan is not thorough; see `ImageProcessing`.

        The result has no metadata and no hash. A hash would take longer than the rest of the plan.
        """
        original = self._original(source)
        thumbnail, preview = wanted.get("thumbnail"), wanted.get("preview")
        if self._is_thorough:
            return self._images.make_derivatives(original, thumbnail=thumbnail, preview=preview)
        made = self._images.inspect(original)
        if made.status != "generated":
            return made
        for path in (thumbnail, preview):
            if path is not None:
                write_atomically(path, _PLACEHOLDER)
        written = WrittenImage(0, 0, len(_PLACEHOLDER))
        return replace(
            made,
            thumbnail=None if thumbnail is None else written,
            preview=None if preview is None else written,
        )

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """Read the metadata of the file in the real library."""
        return self._images.read_metadata(self._original(source))

    def inspect(self, source: Path) -> Derivatives:
        """Inspect the file in the real library."""
        return self._images.inspect(self._original(source))

    def take_fingerprint(self, source: Path) -> Fingerprint:
        """Return the size and times of a file, without a hash, which would take longer than the rest of the plan."""
        status = self._original(source).stat()
        return Fingerprint(status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns))

    def read_source(
        self, source: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> SourceReading | None:
        """Read a file as `ImageProcessing` does. Return None for an unchanged file unless the plan is thorough."""
        original = self._original(source)
        if not self._is_thorough:
            # If the file is missing, the call below reports it.
            with suppress(FileNotFoundError):
                now = self.take_fingerprint(source)
                if known.is_of(size_bytes=now.size_bytes, mtime_ns=now.mtime_ns, ctime_ns=now.ctime_ns or 0):
                    return None
        return self._images.read_source(original, known, on_bytes=on_bytes)

    def close(self) -> None:
        """Close the image processing that reads the originals."""
        self._images.close()

    def _original(self, source: Path) -> Path:
        try:
            return self._library.content_path(source)
        except FileNotFoundError:
            # The caller opens the file and reports that it is missing.
            return source
