"""Decodes formats that libvips from PyPI cannot decode, such as HEIC and JPEG 2000, with Pillow if it is installed.

The extras `heic` and `formats` install Pillow and its plug-ins. Without these extras, the formats are not supported.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flows.imaging.errors import UnreadableImage
from flows.imaging.headers.exif import read_exif_block
from flows.imaging.pixels import vips
from flows.imaging.source_file import SourceFile

_ORIENTATION: Final = 0x0112
#: Formats whose pictures Pillow itself turns upright: HEIF by a rotation of the format, TIFF by the orientation tag.
_TURNED_BY_PILLOW: Final = frozenset({"HEIF", "TIFF"})
#: The libvips interpretations of Pillow's modes. Other modes are converted to gray, RGB or RGBA first.
_INTERPRETATIONS: Final = {
    "L": "b-w",
    "LA": "b-w",
    "RGB": "srgb",
    "RGBA": "srgb",
    "CMYK": "cmyk",
    "I;16": "grey16",
}

#: Modes of 32-bit numbers. A file does not define which number is white, so these images cannot be shown.
_NUMBERS: Final = frozenset({"I", "F"})


@dataclass(frozen=True, slots=True)
class PillowHeader:
    """The size and the EXIF orientation (1 to 8) of the pixels that Pillow returns, and whether they have a profile."""

    width: int
    height: int
    orientation: int
    has_profile: bool


@functools.cache
def load_pillow() -> Any | None:
    """Return Pillow's `Image` module with the installed plug-ins; None if Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    # Pillow's limit is not needed, because callers check `ImageLimits` before they decode.
    Image.MAX_IMAGE_PIXELS = None
    with contextlib.suppress(ImportError):
        import pi_heif

        pi_heif.register_heif_opener()
    return Image


def can_read_heic() -> bool:
    """Return whether Pillow and its plug-in for HEIC are installed."""
    image = load_pillow()
    return image is not None and "HEIF" in image.registered_extensions().values()


def read_header(file: SourceFile) -> PillowHeader | None:
    """Return the header of a picture; None if Pillow is not installed or cannot read the picture.

    Pillow cannot read an unknown format, and photojobs cannot show modes of 32-bit numbers.

    Raises:
        UnreadableImage: Pillow knows the format, but the file is damaged.
    """
    with _open(file) as picture:
        if picture is None:
            return None
        width, height = picture.size
        return PillowHeader(width, height, _orientation_of_pixels(picture), bool(picture.info.get("icc_profile")))


def read_pixels(file: SourceFile) -> Any | None:
    """Return the pixels as a libvips image with profile and orientation; None in the cases of `read_header`.

    Raises:
        UnreadableImage: Pillow knows the format but cannot decode the picture.
    """
    with _open(file) as picture:
        if picture is None:
            return None
        orientation = _orientation_of_pixels(picture)
        try:
            profile = picture.info.get("icc_profile")
            plain = picture if picture.mode in _INTERPRETATIONS else _in_plain_mode(picture)
            data = plain.tobytes()
        except Exception as error:
            raise UnreadableImage(f"{file.name}: the file is cut off or damaged; restore it from a backup.") from error
        pyvips = vips.load_vips()
        numbers = "ushort" if plain.mode == "I;16" else "uchar"
        image = pyvips.Image.new_from_memory(data, *plain.size, len(plain.getbands()), numbers)
        image = image.copy(interpretation=_INTERPRETATIONS[plain.mode])
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    if profile and plain is picture:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _orientation_of_pixels(picture: Any) -> int:
    if picture.format in _TURNED_BY_PILLOW:
        return 1
    if picture.format == "AVIF":
        # Pillow does not apply the rotation of the format, and writes it into the EXIF block. `getexif` would also read
        # an orientation in XMP, which does not count in this format.
        return read_exif_block(picture.info.get("exif", b"")).orientation or 1
    orientation: int = picture.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _in_plain_mode(picture: Any) -> Any:
    if picture.mode.startswith("I;16"):
        # In a direct conversion of these modes, Pillow would make each value above 255 white.
        return picture.convert("I").convert("I;16")
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


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
            # A plug-in has recognized the format, so the file is damaged.
            raise UnreadableImage(f"{file.name}: the file is cut off or damaged; restore it from a backup.") from error
        if picture is not None and picture.mode in _NUMBERS:
            picture.close()
            picture = None
        yield picture
        if picture is not None:
            picture.close()
