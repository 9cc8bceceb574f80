"""What the numbers of a TIFF's pixels mean, if libvips takes them for something else.

libvips knows no 8-bit Lab and no ICC Lab, takes a saved selection for transparency, and 32-bit numbers for 8-bit ones.
"""

import mmap
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from flows.imaging.tiff import Folder, Reader, read_pages

_WIDTH, _HEIGHT = 0x0100, 0x0101
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 0x00FE, 0x0102, 0x0106, 0x0152, 0x0153
_COMPRESSION, _INK_SET, _SUBSAMPLING = 0x0103, 0x014C, 0x0212
_PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB, _LOG_L, _LOG_LUV = 3, 5, 6, 8, 9, 32_844, 32_845
#: Colour spaces besides those of `_COLOURS` that libvips shows right or refuses. The rest, such as a transparency mask,
#: the mosaic of a sensor or colours in linear light, it would show as if they were grey or RGB.
_KNOWN: Final = frozenset({_PALETTE, _YCBCR, _LOG_L, _LOG_LUV})
_JPEG: Final = (6, 7)
_INKS_OF_CMYK: Final = 1
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_IS_REDUCED: Final = 1
_TRANSPARENCY: Final = (1, 2)
#: How many channels are colours, by colour space: white is zero, black is zero, RGB, CMYK, CIELAB, ICC Lab.
_COLOURS: Final = {0: 1, 1: 1, 2: 3, _CMYK: 4, _CIELAB: 3, _ICCLAB: 3}
# Reducing an image overshoots at hard edges.
_OVERSHOOT: Final = 0.25


class Numbers(Enum):
    """How numbers stand for colours."""

    #: As libvips understands them.
    PLAIN = "plain"
    #: 32 bits, all used.
    LONG = "long"
    #: From 0, black, to 1, white.
    FLOAT = "float"
    #: Lightness from 0 to 255, colours as signed bytes.
    LAB_8 = "lab 8"
    #: Lightness from 0 to 65535, colours as signed 256ths.
    LAB_16 = "Lab 16"
    #: Lightness from 0 to 255, colours 128 too high.
    ICC_LAB_8 = "ICC Lab 8"
    #: Lightness from 0 to 65280, colours in 256ths and 128 too high.
    ICC_LAB_16 = "ICC Lab 16"


@dataclass(frozen=True, slots=True)
class TiffPixels:
    """How the pixels of a TIFF are to be read.

    Attributes:
        width: of the page, in pixels; None if it does not say it.
        height: likewise.
        page: the number of the page that shows the picture, from 0.
        numbers: how they stand for colours; None if nothing here can tell.
        bands: how many channels are colours or transparency; None if it is not known.
        colour_space_at: where in the file the colour space is, if libvips must take it for another; else None.
        byte_order: of the file.
    """

    width: int | None = None
    height: int | None = None
    page: int = 0
    numbers: Numbers | None = Numbers.PLAIN
    bands: int | None = None
    colour_space_at: int | None = None
    byte_order: Literal["little", "big"] = "little"

    def content(self, descriptor: int) -> Any | None:
        """The file as libvips is to see it, or None if it may see the file itself; the file is not changed."""
        if self.colour_space_at is None:
            return None
        content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        content[self.colour_space_at : self.colour_space_at + 2] = _ICCLAB.to_bytes(2, self.byte_order)
        return content

    def is_plain(self, image: Any) -> bool:
        """Whether libvips understands an image, its header, by itself."""
        return self.numbers is Numbers.PLAIN and (self.bands is None or image.bands <= self.bands)

    def to_plain(self, image: Any) -> Any:
        """The image in numbers that libvips understands, made pixel by pixel as they are read."""
        kept = image if self.bands is None or image.bands <= self.bands else image[: self.bands]
        match self.numbers:
            case Numbers.LONG:
                return _sixteen_bits(kept / 65_536)
            case Numbers.FLOAT:
                return _sixteen_bits(kept * 65_535)
            case Numbers.LAB_8:
                # The same bytes, read as signed ones.
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
        """Whether `to_plain` gives Lab values, of the white D50."""
        return self.numbers in (Numbers.LAB_8, Numbers.LAB_16, Numbers.ICC_LAB_8, Numbers.ICC_LAB_16)

    def is_in_range(self, small: Any) -> bool:
        """Whether a reduced copy of a float image has values from 0 to 1, as far as reducing leaves them there."""
        return bool(small.min() >= -_OVERSHOOT and small.max() <= 1 + _OVERSHOOT)


def read_pixels(read_at: Reader) -> TiffPixels | None:
    """How the pixels of a TIFF are to be read, or None if the file is no TIFF."""
    pages = list(read_pages(read_at))
    if not pages:
        return None
    # A reduced copy of the picture may come first.
    page = next((at for at, folder in enumerate(pages) if not _number(folder, _SUBFILE_TYPE, 0) & _IS_REDUCED), 0)
    folder = pages[page]
    width, height = (folder[tag].number() if tag in folder else None for tag in (_WIDTH, _HEIGHT))
    photometric = _number(folder, _PHOTOMETRIC, -1)
    colours = _COLOURS.get(photometric)
    if colours is None:
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
        bands=colours + (1 if extra[0] in _TRANSPARENCY else 0) if extra else None,
        colour_space_at=folder[_PHOTOMETRIC].place if photometric == _CIELAB else None,
        byte_order="little" if read_at(0, 2) == b"II" else "big",
    )


def _is_known(photometric: int, folder: Folder) -> bool:
    if photometric == _YCBCR and _number(folder, _COMPRESSION, 1) not in _JPEG:
        # If each pixel has colours of its own, libvips takes them for RGB.
        is_whole = _SUBSAMPLING in folder and folder[_SUBSAMPLING].numbers() == (1, 1)
        return not is_whole
    # A file without a colour space is refused by libvips.
    return photometric in _KNOWN or photometric < 0


def _numbers(photometric: int, sample_format: int, bits: int) -> Numbers | None:
    if photometric == _CIELAB:
        return {8: Numbers.LAB_8, 16: Numbers.LAB_16}.get(bits)
    if photometric == _ICCLAB:
        return {8: Numbers.ICC_LAB_8, 16: Numbers.ICC_LAB_16}.get(bits)
    if sample_format == _FLOAT:
        return Numbers.FLOAT
    # Programs store 10, 12 and 14 bits as the measured values or times a power of two, and nothing says which.
    if sample_format == _SIGNED or 8 < bits < 16:
        return None
    return Numbers.LONG if bits == 32 else Numbers.PLAIN


def _number(folder: Folder, tag: int, default: int) -> int:
    numbers = folder[tag].numbers() if tag in folder else ()
    return numbers[0] if numbers else default


def _sixteen_bits(image: Any) -> Any:
    return image.cast("ushort").copy(interpretation="grey16" if image.bands <= 2 else "rgb16")


def _lab(image: Any, lightness: Any, colours: Any, *, alpha_unit: int = 1) -> Any:
    lab = lightness.bandjoin(colours)
    if image.bands > 3:
        lab = lab.bandjoin(image[3] / alpha_unit)
    # Not yet as Lab: libvips would take its white for that of sRGB when it makes the image smaller.
    return lab.cast("float").copy(interpretation="multiband")
