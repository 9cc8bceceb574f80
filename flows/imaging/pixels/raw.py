"""Reads the embedded preview of RAW files, if rawpy is installed. The sensor data themselves are never decoded.

LibRaw chooses the preview if a file has several. A small preview is accepted, too.
`flows.imaging.thumbnail_and_preview` decides whether the preview is turned.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from flows.imaging.errors import UnreadableImage
from flows.imaging.headers.containers import read_embedded
from flows.imaging.source_file import SourceFile, missing
from storage.library.naming.kinds import RAW_EXTENSIONS

#: The first bytes of JPEG, PNG and WebP files. LibRaw opens some of these files if they have a RAW extension, but
#: returns wrong sizes.
_OTHER_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")

# EXIF orientations by LibRaw's `flip`, a set of bits: 1 mirrors left and right, 2 top and bottom, 4 swaps the axes.
_ORIENTATIONS: Final = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class NoEmbeddedPreview(UnreadableImage):
    """The camera of the RAW file is unknown, the file has no readable preview, or rawpy is not installed."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """The header and the embedded preview of a RAW file.

    Attributes:
        width, height: the size of the sensor's picture in pixels, before it is turned upright.
        orientation: the EXIF orientation by which the picture is turned upright.
        jpeg: the embedded preview as a JPEG file; None if it is stored as pixels or was not read.
        pixels: the embedded preview as rows of red, green and blue bytes, with its width and height; None if it is a
            JPEG or was not read.
    """

    width: int
    height: int
    orientation: int
    jpeg: bytes | None = None
    pixels: bytes | None = None
    pixels_width: int = 0
    pixels_height: int = 0


def load_rawpy() -> Any | None:
    """Return the `rawpy` module; None if it is not installed."""
    try:
        import rawpy
    except ImportError:
        return None
    return rawpy


def has_raw_name(source: SourceFile) -> bool:
    """Return whether a file has the extension of a RAW file but not the first bytes of a JPEG, PNG or WebP file."""
    is_raw = source.path.suffix.lower().removeprefix(".") in RAW_EXTENSIONS
    return is_raw and not source.read_at(0, 4).startswith(_OTHER_STARTS)


def read_raw(source: SourceFile, *, with_preview: bool) -> RawFile:
    """Read the sizes of a RAW file and, if requested, its embedded preview.

    Raises:
        NoEmbeddedPreview: rawpy is not installed, LibRaw does not know the camera or its compression, or the requested
            preview does not exist.
        UnreadableImage: the file is damaged or not a RAW file.
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
        # LibRaw also raises this if it does not know the compression of the preview, such as JPEG XL.
        raise NoEmbeddedPreview(
            f"{source.name}: LibRaw finds no readable embedded preview. Add a JPEG of the same name."
        ) from error
    except rawpy.LibRawFileUnsupportedError as error:
        tags = read_embedded(source.read_at, size_bytes=source.size_bytes).tags
        if tags.make or tags.model:
            raise NoEmbeddedPreview(
                f"{source.name}: LibRaw does not know this camera or its compression. Add a JPEG of the same name."
            ) from error
        raise _unreadable(source, error) from error
    except rawpy.LibRawError as error:
        if not source.path.exists():
            raise missing(source.path) from error
        raise _unreadable(source, error) from error


def _unreadable(source: SourceFile, error: Exception) -> UnreadableImage:
    detail = error.args[0] if error.args else type(error).__name__
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    return UnreadableImage(
        f"{source.name}: LibRaw cannot read it ({text.strip()[:120]}). The file is damaged, or is not a RAW "
        "file. Restore it from a backup, or open it in another program to check it."
    )
