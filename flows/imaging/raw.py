"""The embedded preview of RAW files, by rawpy where it is installed. RAW data itself is never developed."""

from dataclasses import dataclass, replace
from typing import Any, Final

from flows.imaging.containers import read_embedded
from flows.imaging.errors import ImageMissing, UnreadableImage
from flows.imaging.source_file import SourceFile
from storage.library.kinds import RAW_EXTENSIONS

#: JPEG, PNG and WebP under a wrong name. LibRaw would open some of them, with sizes that are not those of the picture.
_OTHER_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")

# EXIF orientations by LibRaw's `flip`, of which 1 mirrors left and right, 2 top and bottom, and 4 swaps the axes.
_ORIENTATIONS: Final = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class NoEmbeddedPreview(UnreadableImage):
    """The RAW file has no preview that could be taken out, is of an unknown camera, or rawpy is not installed."""


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


def has_raw_name(source: SourceFile) -> bool:
    """Whether a file has the extension of a RAW file, and does not begin as another image under a wrong name."""
    is_raw = source.path.suffix.lower().removeprefix(".") in RAW_EXTENSIONS
    return is_raw and not source.read_at(0, 4).startswith(_OTHER_STARTS)


def read_raw(source: SourceFile, *, with_preview: bool) -> RawFile:
    """Read a RAW file's sizes and, where asked, its embedded preview.

    Raises:
        NoEmbeddedPreview: rawpy is not installed, LibRaw does not know the camera or its compression, or a preview is
            asked for that the file does not have.
        UnreadableImage: it is damaged, or no RAW file.
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
    except rawpy.LibRawFileUnsupportedError as error:
        tags = read_embedded(source.read_at, size_bytes=source.size_bytes).tags
        if tags.make or tags.model:
            raise NoEmbeddedPreview(f"{source.name}: LibRaw does not know this camera or its compression.") from error
        raise _unreadable(source, error) from error
    except rawpy.LibRawError as error:
        if not source.path.exists():
            raise ImageMissing(f"{source.name}: the file does not exist.") from error
        raise _unreadable(source, error) from error


def _unreadable(source: SourceFile, error: Exception) -> UnreadableImage:
    detail = error.args[0] if error.args else type(error).__name__
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    return UnreadableImage(f"{source.name}: LibRaw cannot read it ({text.strip()[:120]}).")
