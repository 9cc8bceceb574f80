"""Interprets the pixel values of TIFF files that libvips would misinterpret.

libvips does not support 8-bit Lab and ICC Lab, and refuses a file with an invalid orientation. It also
interprets a saved selection as transparency, and 32-bit values as 8-bit values.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal

from flows.imaging.headers.tiff import Folder, Reader, read_pages

_WIDTH, _HEIGHT = 0x0100, 0x0101
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 0x00FE, 0x0102, 0x0106, 0x0152, 0x0153
_COMPRESSION, _ORIENTATION, _INK_SET, _SUBSAMPLING = 0x0103, 0x0112, 0x014C, 0x0212
_PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB, _LOG_L, _LOG_LUV = 3, 5, 6, 8, 9, 32_844, 32_845
#: The color spaces outside of `_COLORS` that libvips converts correctly or refuses. libvips would show all others as
#: gray or RGB, for example a transparency mask, the mosaic of a sensor or colors in linear light.
_KNOWN: Final = frozenset({_PALETTE, _YCBCR, _LOG_L, _LOG_LUV})
_JPEG: Final = (6, 7)
_INKS_OF_CMYK: Final = 1
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_IS_REDUCED: Final = 1
_TRANSPARENCY: Final = (1, 2)
#: The number of color channels by TIFF color space. 0 is gray with white as zero, 1 gray with black as zero, 2 RGB.
_COLORS: Final = {0: 1, 1: 1, 2: 3, _CMYK: 4, _CIELAB: 3, _ICCLAB: 3}
# How far values of a reduced image may be outside of the range from 0 to 1, which happens at hard edges.
_OVERSHOOT: Final = 0.25


class Numbers(Enum):
    """The encoding of colors as numbers."""

    #: Values that libvips interprets correctly.
    PLAIN = "plain"
    #: Integers that use all 32 bits.
    LONG = "long"
    #: Floating-point numbers from 0 (black) to 1 (white).
    FLOAT = "float"
    #: CIELAB with `L` from 0 to 255, and with `a` and `b` as signed bytes.
    LAB_8 = "lab 8"
    #: CIELAB with `L` from 0 to 65535, and with `a` and `b` as signed 256ths.
    LAB_16 = "Lab 16"
    #: CIELAB with `L` from 0 to 255, and with `a` and `b` increased by 128.
    ICC_LAB_8 = "ICC Lab 8"
    #: CIELAB with `L` from 0 to 65280, and with `a` and `b` increased by 128, in 256ths.
    ICC_LAB_16 = "ICC Lab 16"


@dataclass(frozen=True, slots=True)
class TiffPixels:
    """The layout and encoding of the pixels of a TIFF.

    Attributes:
        width, height: the size of the page in pixels; None if it is missing.
        page: the index of the page with the picture, starting at 0.
        numbers: the encoding of colors; None if it is not known.
        bands: the number of channels with colors and transparency, which come first; the other channels are ignored.
            None if all channels are used.
        replaced: the offsets of 16-bit numbers in the file that libvips does not accept, with the numbers that libvips
            gets instead; empty if libvips can read the file unchanged.
        byte_order: the byte order of the file.
    """

    width: int | None = None
    height: int | None = None
    page: int = 0
    numbers: Numbers | None = Numbers.PLAIN
    bands: int | None = None
    replaced: tuple[tuple[int, int], ...] = ()
    byte_order: Literal["little", "big"] = "little"

    def content(self, descriptor: int) -> Any | None:
        """Return a modified copy of the file in memory for libvips; None if libvips can read the file unchanged."""
        if not self.replaced:
            return None
        content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        for at, number in self.replaced:
            content[at : at + 2] = number.to_bytes(2, self.byte_order)
        return content

    def is_plain(self, image: Any) -> bool:
        """Return whether libvips interprets the values of this image correctly."""
        return self.numbers is Numbers.PLAIN and (self.bands is None or image.bands <= self.bands)

    def to_plain(self, image: Any) -> Any:
        """Return the image with values that libvips interprets correctly. Pixels are converted when they are read."""
        kept = image if self.bands is None or image.bands <= self.bands else image[: self.bands]
        match self.numbers:
            case Numbers.LONG:
                return _sixteen_bits(kept / 65_536)
            case Numbers.FLOAT:
                return _sixteen_bits(kept * 65_535)
            case Numbers.LAB_8:
                # The copy has the same bytes, which libvips then interprets as signed.
                return _lab(kept, kept[0] * (100 / 255), kept[1:3].copy(format="char"))
            case Numbers.LAB_16:
                return _lab(kept, kept[0] * (100 / 65_535), kept[1:3].copy(format="short") / 256, alpha_unit=257)
            case Numbers.ICC_LAB_8:
                return _lab(kept, kept[0] * (100 / 255), kept[1:3] - 128)
            case Numbers.ICC_LAB_16:
                return _lab(kept, kept[0] * (100 / 65_280), kept[1:3] / 256 - 128, alpha_unit=257)
            case _:
                return kept.copy(interpretation=image.interpretation)

    @property
    def is_lab(self) -> bool:
        """Whether `to_plain` returns Lab values with the white point D50."""
        return self.numbers in (Numbers.LAB_8, Numbers.LAB_16, Numbers.ICC_LAB_8, Numbers.ICC_LAB_16)

    def is_in_range(self, small: Any) -> bool:
        """Return whether the values of a reduced float image are from 0 to 1, with a tolerance for the reduction."""
        # A pixel that is not a number (NaN) counts as out of range, because every comparison with it is false.
        return bool(((small >= -_OVERSHOOT) & (small <= 1 + _OVERSHOOT)).min() > 0)


def read_pixels(read_at: Reader) -> TiffPixels | None:
    """Return the layout and encoding of the pixels of a TIFF; None if the file is not a TIFF."""
    pages = list(read_pages(read_at))
    if not pages:
        return None
    # The first page may be a reduced copy of the picture, so the first page that is not reduced is read.
    page = next((at for at, folder in enumerate(pages) if not _number(folder, _SUBFILE_TYPE, 0) & _IS_REDUCED), 0)
    folder = pages[page]
    width, height = (folder[tag].number() if tag in folder else None for tag in (_WIDTH, _HEIGHT))
    found = _interpreted(folder, width, height, page)
    return replace(
        found,
        replaced=(*_wrong_orientations(pages), *found.replaced),
        byte_order="little" if read_at(0, 2) == b"II" else "big",
    )


def _wrong_orientations(pages: Sequence[Folder]) -> Iterator[tuple[int, int]]:
    for folder in pages:
        orientation = folder.get(_ORIENTATION)
        if orientation is not None and orientation.is_short and orientation.number() not in range(1, 9):
            yield orientation.place, 1


def _interpreted(folder: Folder, width: int | None, height: int | None, page: int) -> TiffPixels:
    photometric = _number(folder, _PHOTOMETRIC, -1)
    colors = _COLORS.get(photometric)
    if colors is None:
        return TiffPixels(width, height, page, Numbers.PLAIN if _is_known(photometric, folder) else None)
    extra = folder[_EXTRA_SAMPLES].numbers() if _EXTRA_SAMPLES in folder else ()
    if photometric == _CMYK and _number(folder, _INK_SET, _INKS_OF_CMYK) != _INKS_OF_CMYK:
        return TiffPixels(width, height, page, None)
    numbers = _numbers(photometric, _number(folder, _SAMPLE_FORMAT, _UNSIGNED), _number(folder, _BITS, 1))
    return TiffPixels(
        width,
        height,
        page,
        numbers,
        bands=colors + (1 if extra[0] in _TRANSPARENCY else 0) if extra else None,
        replaced=((folder[_PHOTOMETRIC].place, _ICCLAB),) if photometric == _CIELAB else (),
    )


def _is_known(photometric: int, folder: Folder) -> bool:
    if photometric == _YCBCR and _number(folder, _COMPRESSION, 1) not in _JPEG:
        # libvips reads YCbCr as RGB if it is not subsampled. Its colors would be wrong, so the file counts as unknown.
        is_whole = _SUBSAMPLING in folder and folder[_SUBSAMPLING].numbers() == (1, 1)
        return not is_whole
    # A file without a color space (-1) needs no check here, because libvips refuses the file.
    return photometric in _KNOWN or photometric < 0


def _numbers(photometric: int, sample_format: int, bits: int) -> Numbers | None:
    if photometric == _CIELAB:
        return {8: Numbers.LAB_8, 16: Numbers.LAB_16}.get(bits)
    if photometric == _ICCLAB:
        return {8: Numbers.ICC_LAB_8, 16: Numbers.ICC_LAB_16}.get(bits)
    if sample_format == _FLOAT:
        return Numbers.FLOAT
    # Values of 10, 12 and 14 bits are not supported: some programs multiply them by a power of two, and the file does
    # not show this.
    if sample_format == _SIGNED or 8 < bits < 16:
        return None
    return Numbers.LONG if bits == 32 else Numbers.PLAIN


def _number(folder: Folder, tag: int, default: int) -> int:
    numbers = folder[tag].numbers() if tag in folder else ()
    return numbers[0] if numbers else default


def _sixteen_bits(image: Any) -> Any:
    return image.cast("ushort").copy(interpretation="grey16" if image.bands <= 2 else "rgb16")


def _lab(image: Any, lightness: Any, colors: Any, *, alpha_unit: int = 1) -> Any:
    lab = lightness.bandjoin(colors)
    if image.bands > 3:
        lab = lab.bandjoin(image[3] / alpha_unit)
    # The image is not marked as Lab yet, because libvips would reduce a Lab image with the white point of sRGB.
    return lab.cast("float").copy(interpretation="multiband")
