"""Pictures that the wheel of libvips has no decoder for: HEIC, JPEG 2000 and the like, by Pillow if it is installed.

The extras `heic` and `formats` bring Pillow and its plug-ins. Without them such files are not supported.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flows.imaging import vips
from flows.imaging.errors import UnreadableImage
from flows.imaging.source_file import SourceFile

_ORIENTATION: Final = 0x0112
#: Formats whose turns belong to the picture itself: Pillow has followed them, and their EXIF orientation is history.
_TURNED_BY_THEMSELVES: Final = frozenset({"HEIF", "AVIF"})
#: Interpretations of libvips by Pillow's modes; every other mode becomes RGB.
_INTERPRETATIONS: Final = {"L": "b-w", "LA": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}


@dataclass(frozen=True, slots=True)
class PillowHeader:
    """What Pillow says of a picture before it decodes it.

    Attributes:
        width: as stored, in pixels.
        height: as stored, in pixels.
        orientation: EXIF orientation, 1 to 8, of the stored pixels.
    """

    width: int
    height: int
    orientation: int


@functools.cache
def load_pillow() -> Any | None:
    """Pillow's `Image` module with the plug-ins that are installed, or None without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return None
    # Sizes are checked by our own limits, before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    with contextlib.suppress(ImportError):
        import pi_heif

        pi_heif.register_heif_opener()
    return Image


def can_read_heic() -> bool:
    """Whether Pillow is there with the plug-in for HEIC."""
    image = load_pillow()
    return image is not None and "HEIF" in image.registered_extensions().values()


def read_header(file: SourceFile) -> PillowHeader | None:
    """Size and orientation of a picture; None if Pillow is not installed or does not know the format."""
    with _open(file) as picture:
        if picture is None:
            return None
        orientation = 1 if picture.format in _TURNED_BY_THEMSELVES else picture.getexif().get(_ORIENTATION, 1)
        width, height = picture.size
        return PillowHeader(width, height, orientation if orientation in range(1, 9) else 1)


def read_pixels(file: SourceFile) -> Any | None:
    """The pixels as an image of libvips, as stored, with profile and orientation; None if Pillow knows no such format.

    Raises:
        UnreadableImage: Pillow knows the format, and cannot decode the picture.
    """
    header = read_header(file)
    with _open(file) as picture:
        if picture is None or header is None:
            return None
        try:
            profile = picture.info.get("icc_profile")
            plain = picture if picture.mode in _INTERPRETATIONS else picture.convert(_plain_mode(picture))
            data = plain.tobytes()
        except Exception as error:
            raise UnreadableImage(f"{file.name}: the file is cut off or damaged.") from error
        pyvips = vips.load_vips()
        image = pyvips.Image.new_from_memory(data, *plain.size, len(plain.getbands()), "uchar")
        image = image.copy(interpretation=_INTERPRETATIONS[plain.mode])
    image.set_type(pyvips.GValue.gint_type, "orientation", header.orientation)
    if profile and plain is picture:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _plain_mode(picture: Any) -> str:
    if picture.mode in ("1", "I;16", "I;16L", "I;16B"):
        return "L"
    return "RGBA" if picture.has_transparency_data else "RGB"


@contextlib.contextmanager
def _open(file: SourceFile) -> Iterator[Any | None]:
    image = load_pillow()
    if image is None:
        yield None
        return
    with os.fdopen(os.dup(file.descriptor), "rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream.seek(0)
        try:
            picture = image.open(stream)
        except image.UnidentifiedImageError:
            picture = None
        except Exception as error:
            # A plug-in took it for one of its own.
            raise UnreadableImage(f"{file.name}: the file is cut off or damaged.") from error
        yield picture
        if picture is not None:
            picture.close()
