"""The embedded preview of RAW files, by rawpy where it is installed. RAW data itself is never developed."""

from dataclasses import dataclass, replace
from typing import Any, Final

from flows.imaging.errors import ImageMissing, UnreadableImage
from flows.imaging.source_file import SourceFile

# EXIF orientations by LibRaw's `flip`, of which 1 mirrors left and right, 2 top and bottom, and 4 swaps the axes.
_ORIENTATIONS: Final = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class NoEmbeddedPreview(UnreadableImage):
    """The RAW file has no preview that could be taken out, or rawpy is not installed."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """What a RAW file tells without being developed.

    Attributes:
        width: of the picture as the sensor gives it.
        height: likewise.
        orientation: EXIF orientation by which the picture becomes upright.
        jpeg: the embedded preview as a JPEG file, or None.
        pixels: the embedded preview as rows of red, green and blue bytes, or None.
        pixels_width: of `pixels`.
        pixels_height: of `pixels`.
    """

    width: int
    height: int
    orientation: int
    jpeg: bytes | None = None
    pixels: bytes | None = None
    pixels_width: int = 0
    pixels_height: int = 0


def load_rawpy() -> Any | None:
    """The `rawpy` module, or None where it is not installed."""
    try:
        import rawpy
    except ImportError:
        return None
    return rawpy


def read_raw(source: SourceFile, *, with_preview: bool) -> RawFile:
    """Read a RAW file's sizes and, where asked, its embedded preview.

    Raises:
        NoEmbeddedPreview: rawpy is not installed, or a preview is asked for that the file does not have.
        UnreadableImage: it is damaged, or no RAW file that LibRaw knows.
    """
    rawpy = load_rawpy()
    if rawpy is None:
        raise NoEmbeddedPreview(f"{source.name}: RAW files need rawpy. Install photojobs[raw].")
    try:
        with rawpy.imread(str(source.path)) as raw:
            sizes = raw.sizes
            described = RawFile(int(sizes.width), int(sizes.height), _ORIENTATIONS.get(int(sizes.flip), 1))
            if not with_preview:
                return described
            preview = raw.extract_thumb()
            if preview.format == rawpy.ThumbFormat.JPEG:
                return replace(described, jpeg=bytes(preview.data))
            height, width = preview.data.shape[:2]
            return replace(described, pixels=preview.data.tobytes(), pixels_width=int(width), pixels_height=int(height))
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        # LibRaw calls a preview missing that is compressed in a way that it does not know, as JPEG XL.
        raise NoEmbeddedPreview(f"{source.name}: it has no embedded preview that LibRaw can read.") from error
    except rawpy.LibRawError as error:
        if not source.path.exists():
            raise ImageMissing(f"{source.name}: the file does not exist.") from error
        raise UnreadableImage(f"{source.name}: LibRaw cannot read it ({_detail(error)}).") from error


def _detail(error: Exception) -> str:
    detail = error.args[0] if error.args else type(error).__name__
    return (detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)).strip()[:120]
