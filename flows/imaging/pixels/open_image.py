"""Opens an original, reads its header, and finds out how its pixels and colors are stored. It decodes no pixels."""

from dataclasses import dataclass
from typing import Any

from flows.imaging.errors import UnreadableImage
from flows.imaging.headers.containers import needs_a_decoder_of_its_own
from flows.imaging.headers.tiff_pixels import TiffPixels, read_pixels
from flows.imaging.pixels import pillow, vips
from flows.imaging.pixels.coded_colors import CodedColors, read_coded_colors
from flows.imaging.source_file import SourceFile

#: The libvips loaders that must decode a whole picture at once and not strip by strip.
_WHOLE_LOADERS = ("heif", "webp")
#: The size in bytes of a sample, for the libvips formats whose samples are larger than one byte.
_SAMPLE_BYTES = {"ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}
#: The size in bytes of a pixel that Pillow decodes.
_PILLOW_BYTES = 4

# The largest pictures of phones have more tiles than libheif allows by default, so the limits of libheif are switched
# off. `ImageLimits` still applies.
_UNLIMITED = "[unlimited]"

# Decoding fails on errors of the decoder, but not on warnings, which harmless irregularities of cameras cause.
FAIL_ON = "error"


class UnsupportedCodec(UnreadableImage):
    """The file, for example a HEIC file, needs a decoder that is not installed."""


class ColorsNotDefined(UnsupportedCodec):
    """The file does not define which colors its values represent."""


def read_header(source: Any, name: str, *, page: int = 0) -> Any:
    """Return the image of a `pyvips.Source`, after reading its header only.

    Raises:
        UnreadableImage: the file is not an image of an accepted format, or its header is damaged.
        UnsupportedCodec: this build of libvips has no decoder for the image.
    """
    pyvips = vips.load_vips()
    options: dict[str, Any] = {"access": "sequential", "fail_on": FAIL_ON}
    vips.clear_errors()
    try:
        try:
            return pyvips.Image.new_from_source(source, f"[page={page}]" if page else "", **options)
        except pyvips.Error as error:
            if not vips.is_over_limit_of_format(error):
                raise
            return pyvips.Image.new_from_source(source, _UNLIMITED, **options)
    except pyvips.Error as error:
        raise unreadable(error, name) from error


@dataclass(frozen=True, slots=True)
class OpenImage:
    """An open original after its header was read. Width and height are the size of the stored pixels.

    Attributes:
        name: the file's name, for messages.
        orientation: the EXIF orientation, 1 to 8, of the stored pixels; None if the file has none.
        header: the libvips image, with its header only; None if only Pillow can decode the file.
        source: the `pyvips.Source` of the header.
        pixels: how to read the pixels of a TIFF; None for other formats.
        colors: the colors, if the file defines them by code points. None if it has no code points, or if they mean
            sRGB, or if the file's profile applies.
        file: the file; None for an embedded preview.
    """

    name: str
    width: int
    height: int
    orientation: int | None
    header: Any = None
    source: Any = None
    pixels: TiffPixels | None = None
    file: SourceFile | None = None
    colors: CodedColors | None = None

    @property
    def is_heif(self) -> bool:
        """Whether libvips reads the file as HEIC or AVIF. Only decoding shows whether a decoder is installed."""
        return self.header is not None and _is_heif(self.header)

    @property
    def whole_bytes(self) -> int:
        """The size in bytes of the decoded pixels if the image must be decoded as a whole; otherwise 0."""
        if self.header is None:
            return self.width * self.height * _PILLOW_BYTES
        loader = str(self.header.get("vips-loader"))
        is_interlaced = self.header.get_typeof("interlaced") != 0
        if not (is_interlaced or loader.startswith(_WHOLE_LOADERS)):
            return 0
        # The decoder of a progressive JPEG keeps coefficients of two bytes in memory, so each sample takes two bytes.
        sample_bytes = 2 if loader.startswith("jpeg") else _SAMPLE_BYTES.get(self.header.format, 1)
        return self.width * self.height * int(self.header.bands) * sample_bytes


def open_memory(content: bytes, name: str) -> OpenImage:
    """Open an image in memory and read its header. Raises the errors of `read_header`."""
    source = vips.load_vips().Source.new_from_memory(content)
    header = read_header(source, name)
    return OpenImage(name, header.width, header.height, _stored_orientation(header), header, source)


def open_image(file: SourceFile) -> OpenImage:
    """Open an original and read its header.

    Raises:
        UnreadableImage: the file is not an image of an accepted format, or its header is damaged.
        UnsupportedCodec: no installed decoder supports the image, or its colors are not defined.
    """
    pixels = read_pixels(file.read_at)
    if pixels is not None and pixels.numbers is None:
        raise ColorsNotDefined(
            f"{file.name}: photojobs cannot determine which colors the values of the pixels represent. Save a copy as "
            "sRGB with another program."
        )
    content = None if pixels is None else pixels.content(file.descriptor)
    sources = vips.load_vips().Source
    source = sources.new_from_descriptor(file.descriptor) if content is None else sources.new_from_memory(content)
    try:
        header = read_header(source, file.name, page=0 if pixels is None else pixels.page)
    except UnreadableImage as error:
        if not isinstance(error, UnsupportedCodec) and not needs_a_decoder_of_its_own(file.read_at(0, 12)):
            raise
        other = pillow.read_header(file)
        if other is None:
            raise without_decoder(file.name) from error
        colors = _coded_colors(file, has_profile=other.has_profile)
        return OpenImage(file.name, other.width, other.height, other.orientation, file=file, colors=colors)
    colors = _coded_colors(file, has_profile=has_color_profile(header))
    orientation = _stored_orientation(header)
    return OpenImage(file.name, header.width, header.height, orientation, header, source, pixels, file, colors)


def _coded_colors(file: SourceFile, *, has_profile: bool) -> CodedColors | None:
    colors = read_coded_colors(file.read_at, size_bytes=file.size_bytes)
    if colors is None or (has_profile and not colors.outranks_profile):
        return None
    if not colors.is_known:
        raise ColorsNotDefined(
            f"{file.name}: the file defines its colors by code points that photojobs does not support "
            f"(primaries {colors.primaries}, transfer {colors.transfer}). Save a copy as sRGB with another program."
        )
    return None if colors.is_srgb else colors


def _stored_orientation(header: Any) -> int | None:
    """Return the EXIF orientation, 1 to 8, of the pixels as libvips returns them; None if the file has none.

    HEIF files store a rotation, which libvips applies, so their EXIF orientation is ignored.
    """
    if _is_heif(header):
        return 1
    if header.get_typeof("orientation") == 0:
        return None
    orientation = header.get("orientation")
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None


def has_color_profile(header: Any) -> bool:
    """Return whether a libvips image has an ICC profile."""
    return bool(header.get_typeof("icc-profile-data") != 0)


def _is_heif(header: Any) -> bool:
    return header.get_typeof("vips-loader") != 0 and str(header.get("vips-loader")).startswith("heifload")


def without_decoder(name: str) -> UnsupportedCodec:
    """Return the error for a file that no installed decoder supports."""
    advice = (
        "Add a JPEG of the same name." if pillow.can_read_heic() else "Install photojobs[formats] for more decoders."
    )
    return UnsupportedCodec(f"{name}: no installed decoder supports it. {advice}")


def unreadable(error: Exception, name: str) -> UnreadableImage:
    """Return the error for a file that libvips could not read or decode."""
    if vips.is_unsupported_codec(error):
        return without_decoder(name)
    return UnreadableImage(f"{name}: {vips.short_reason(error)}.")
