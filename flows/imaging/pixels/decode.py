"""Decodes an open original to upright sRGB pixels with 8 bits per channel, and refuses images beyond the limits.

For RAW files, callers pass the embedded preview. `thumbnail_and_preview` writes the derivatives.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows.imaging.errors import ImageTimeout, ImageTooLarge, UnreadableImage
from flows.imaging.headers.containers import jpeg_sample_bits, needs_a_decoder_of_its_own
from flows.imaging.headers.exif import interoperability_index
from flows.imaging.headers.tiff_pixels import Numbers, TiffPixels, read_pixels
from flows.imaging.limits import ImageLimits
from flows.imaging.pixels import pillow, vips
from flows.imaging.pixels.coded_colors import CodedColors, read_coded_colors
from flows.imaging.source_file import SourceFile

# The matrix is from Adobe RGB (1998) Color Image Encoding, section 4.3.5.3.
_ADOBE_RGB_TO_XYZ = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]

#: The edge of a small test decode, which shows whether a decoder is available.
_PROBE_PIXELS = 64

_JPEG_END = b"\xff\xd9"
#: The bits per sample that JPEG decoders support. Medical devices write JPEGs with 12 bits.
_JPEG_SAMPLE_BITS = 8
#: The largest JPEG that is read into memory to append a missing end marker.
_MAX_OPEN_END_BYTES = 256 << 20

#: The libvips loaders that must decode a whole picture at once and not strip by strip.
_WHOLE_LOADERS = ("heif", "webp")
#: The size in bytes of a sample, for the libvips formats whose samples are larger than one byte.
_SAMPLE_BYTES = {"ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}
#: The size in bytes of a pixel that Pillow decodes.
_PILLOW_BYTES = 4

#: The bands of a CIELAB image without transparency.
_LAB_BANDS = 3

#: The edge of the reduced copy in which the range of the values is checked.
_RANGE_PIXELS = 512

# The largest pictures of phones have more tiles than libheif allows by default. `ImageLimits` still applies.
_UNLIMITED = "[unlimited]"

# Decoding fails on errors of the decoder, but not on warnings, which harmless irregularities of cameras cause.
_FAIL_ON = "error"


class UnsupportedCodec(UnreadableImage):
    """The file, for example a HEIC file, needs a decoder that this build of libvips does not have."""


class ColorsNotDefined(UnsupportedCodec):
    """The file does not define which colors its values represent."""


def read_header(source: Any, name: str, *, page: int = 0) -> Any:
    """Return the image of a `pyvips.Source`, after reading its header only.

    Raises:
        UnreadableImage: the file is not an image of an accepted format, or its header is damaged.
        UnsupportedCodec: this build of libvips has no decoder for the image.
    """
    pyvips = vips.load_vips()
    options: dict[str, Any] = {"access": "sequential", "fail_on": _FAIL_ON}
    vips.clear_errors()
    try:
        try:
            return pyvips.Image.new_from_source(source, f"[page={page}]" if page else "", **options)
        except pyvips.Error as error:
            if not vips.is_over_limit_of_format(error):
                raise
            return pyvips.Image.new_from_source(source, _UNLIMITED, **options)
    except pyvips.Error as error:
        raise _unreadable(error, name) from error


@dataclass(frozen=True, slots=True)
class OpenImage:
    """An open original, of which only the header has been read. Width and height are those of the stored pixels.

    Attributes:
        name: the file's name, for messages.
        orientation: the EXIF orientation, 1 to 8, of the stored pixels; None if the file has none.
        header: the libvips image, of which only the header was read; None if only Pillow can decode the file.
        source: the `pyvips.Source` of the header.
        pixels: how to read the pixels of a TIFF; None for other formats.
        colors: the colors, if the file defines them by code points; None for sRGB, and if the file's profile applies.
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
        """Whether the format is HEIC, AVIF or similar, so that the header does not show whether it can be decoded."""
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
        # The decoder of a progressive JPEG keeps coefficients of two bytes in memory.
        sample_bytes = 2 if loader.startswith("jpeg") else _SAMPLE_BYTES.get(self.header.format, 1)
        return self.width * self.height * int(self.header.bands) * sample_bytes


def open_memory(content: bytes, name: str) -> OpenImage:
    """Open an image in memory and read its header. Raises the errors of `open_image`."""
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
            raise _without_decoder(file.name) from error
        colors = _coded_colors(file, has_profile=other.has_profile)
        return OpenImage(file.name, other.width, other.height, other.orientation, file=file, colors=colors)
    colors = _coded_colors(file, has_profile=_has_profile(header))
    orientation = _stored_orientation(header)
    return OpenImage(file.name, header.width, header.height, orientation, header, source, pixels, file, colors)


def _coded_colors(file: SourceFile, *, has_profile: bool) -> CodedColors | None:
    colors = read_coded_colors(file.read_at, size_bytes=file.size_bytes)
    if colors is None or (has_profile and not colors.outranks_profile):
        return None
    if not colors.is_known:
        raise ColorsNotDefined(
            f"{file.name}: the file names colors by code points that photojobs does not support "
            f"(primaries {colors.primaries}, transfer {colors.transfer}). Save a copy as sRGB with another program."
        )
    return None if colors.is_srgb else colors


def check_codec(image: OpenImage, *, max_seconds: float) -> None:
    """Check, with as little decoding as possible, that an image can be decoded. Raises the errors of `decode`.

    Images whose header already proves this are not checked.
    """
    if image.is_heif:
        decode(image, long_edge_pixels=_PROBE_PIXELS, max_seconds=max_seconds)
    elif image.pixels is not None and image.header is not None and image.file is not None:
        _check_range(image, max_seconds=max_seconds)
        try:
            _in_memory(lambda: image.header.crop(0, 0, 1, 1), name=image.name, max_seconds=max_seconds)
        except UnsupportedCodec:
            if pillow.read_header(image.file) is None:
                raise
    elif image.file is not None and jpeg_sample_bits(image.file.read_at) not in (None, _JPEG_SAMPLE_BITS):
        raise _without_decoder(image.name)


def check_size(width: int, height: int, *, name: str, limits: ImageLimits, whole_bytes: int = 0) -> None:
    """Check before decoding that an image of `width` x `height` pixels is not too large.

    Raises:
        ImageTooLarge: the image has too many pixels, one edge is too long, or decoding would need too much memory.
    """
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} pixels are more than the limit of {limits.max_pixels / 10**6:,g} "
            "megapixels. Raise max_image_megapixels if the file is a real picture."
        )
    if max(width, height) > limits.max_edge_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} pixels have an edge longer than the limit of {limits.max_edge_pixels:,}. "
            "Save a smaller copy with another program."
        )
    if whole_bytes > limits.max_whole_bytes:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} pixels that can only be decoded as a whole take "
            f"{whole_bytes / 10**6:,.0f} MB, more than the limit of {limits.max_whole_bytes / 10**6:,.0f} MB. "
            "Raise image_memory_megabytes if the file is a real picture. The limit is a quarter of this setting."
        )


def check_image(image: OpenImage, *, limits: ImageLimits) -> None:
    """Check that an open image is not too large. Raises the errors of `check_size`."""
    check_size(image.width, image.height, name=image.name, limits=limits, whole_bytes=image.whole_bytes)


def decode(image: OpenImage, *, long_edge_pixels: int, max_seconds: float, follow_orientation: bool = True) -> Any:
    """Decode an image into memory: upright, in sRGB, 8 bits per channel, reduced to the given edge but never enlarged.

    Transparency is kept. The memory depends on `long_edge_pixels` and not on the original, unless the image must be
    decoded as a whole. Without `follow_orientation`, the pixels are not turned or mirrored.

    Raises:
        UnreadableImage: the image is damaged or truncated.
        UnsupportedCodec: no installed decoder supports the image, or its colors are not defined.
        ImageTimeout: decoding took too long.
    """
    if image.header is not None:
        try:
            return _decode_by_libvips(image, long_edge_pixels, max_seconds, follow_orientation)
        except ColorsNotDefined:
            raise
        except UnsupportedCodec:
            if image.file is None:
                raise
        except ImageTimeout:
            raise
        except UnreadableImage:
            ended = _with_its_end(image, max_seconds=max_seconds)
            if ended is None:
                raise
            return _decode_by_libvips(ended, long_edge_pixels, max_seconds, follow_orientation)
    other = None if image.file is None else pillow.read_pixels(image.file)
    if other is None:
        raise _without_decoder(image.name)
    sizes: dict[str, Any] = {"height": long_edge_pixels, "size": "down"}
    if image.colors is None and (_has_profile(other) or other.interpretation == "cmyk"):
        sizes[_output_profile_option()] = "srgb"

    def in_srgb() -> Any:
        reduced = other.thumbnail_image(long_edge_pixels, **sizes)
        return _in_srgb(reduced if image.colors is None else image.colors.to_srgb(reduced))

    return _in_memory(in_srgb, name=image.name, max_seconds=max_seconds)


def _with_its_end(image: OpenImage, *, max_seconds: float) -> OpenImage | None:
    """Return a JPEG with an appended end marker if only the end marker is missing; None for all other images."""
    file = image.file
    if file is None or file.read_at(0, 2) != b"\xff\xd8" or file.size_bytes > _MAX_OPEN_END_BYTES:
        return None
    content = file.read_at(0, file.size_bytes)
    if content.rstrip(b"\0").endswith(_JPEG_END):
        return None
    # libvips does not detect missing last lines. So the file is decoded with two different endings: if lines are
    # missing, the two pictures differ.
    buffers = (content + filling + _JPEG_END for filling in (b"", b"\x55" * 64))
    load = vips.load_vips().Image.new_from_buffer
    pictures = [load(buffer, "", access="sequential", fail_on="none") for buffer in buffers]
    difference = _in_memory(lambda: (pictures[0] - pictures[1]).abs().stats(), name=file.name, max_seconds=max_seconds)
    return None if difference(1, 0)[0] > 0 else open_memory(content + _JPEG_END, file.name)


def _decode_by_libvips(image: OpenImage, long_edge_pixels: int, max_seconds: float, follow_orientation: bool) -> Any:
    header, pixels = image.header, image.pixels
    options: dict[str, Any] = {"height": long_edge_pixels, "size": "down"}
    if not follow_orientation:
        options["no_rotate"] = True
    has_profile = _has_profile(header)
    if image.colors is None and (has_profile or header.interpretation == "cmyk"):
        # Only these images are converted here. Most others are already in sRGB, and a conversion would take longer than
        # all other work.
        options[_output_profile_option()] = "srgb"

    def reduced() -> Any:
        if pixels is not None and pixels.is_lab:
            lab = _resized_lab(pixels.to_plain(header), long_edge_pixels).copy(interpretation="lab")
            colors = lab.icc_export(output_profile="srgb")
            return colors.autorot() if follow_orientation else colors
        if pixels is not None and not pixels.is_plain(header):
            return pixels.to_plain(header).thumbnail_image(long_edge_pixels, **options)
        if image.colors is not None and header.format == "ushort" and header.bands in (1, 3):
            # `thumbnail_source` is not used, because it rounds the values to 8 bits. In an HDR picture, the sky would
            # show steps.
            deep = _resized(read_header(image.source, image.name), long_edge_pixels)
            return deep.autorot() if follow_orientation else deep
        # `fail_on` is part of the load options, because libvips ignores it as a separate option for sources (issue
        # 5195). Without it, libvips would accept half a file.
        load_options = f"fail_on={_FAIL_ON}" if pixels is None else f"fail_on={_FAIL_ON},page={pixels.page}"
        if image.is_heif:
            # `thumbnail_source` would decode the thumbnail in the file if it is large enough. That may have black bars,
            # or be older than the picture.
            load = vips.load_vips().Image.new_from_source
            whole = load(image.source, f"[{load_options},unlimited]", access="sequential")
            return whole.thumbnail_image(long_edge_pixels, **options)
        return vips.load_vips().Image.thumbnail_source(
            image.source, long_edge_pixels, option_string=f"[{load_options}]", **options
        )

    def in_srgb() -> Any:
        if image.colors is not None:
            return _in_srgb(image.colors.to_srgb(reduced()))
        is_adobe_rgb = not has_profile and _is_adobe_rgb(header)
        return _in_srgb(_from_adobe_rgb(reduced()) if is_adobe_rgb else reduced())

    _check_range(image, max_seconds=max_seconds)
    return _in_memory(in_srgb, name=image.name, max_seconds=max_seconds)


def _check_range(image: OpenImage, *, max_seconds: float) -> None:
    if image.pixels is None or image.pixels.numbers is not Numbers.FLOAT:
        return
    # The header is read again, because the pixels of a libvips image can be read only once.
    values = read_header(image.source, image.name, page=image.pixels.page).copy(interpretation="multiband")
    small = _in_memory(lambda: _resized(values, _RANGE_PIXELS), name=image.name, max_seconds=max_seconds)
    if not image.pixels.is_in_range(small):
        raise ColorsNotDefined(
            f"{image.name}: the values of the pixels are not from 0 to 1, and the file does not define the value of "
            "white. Save a copy as sRGB with another program."
        )


def reduce(image: Any, *, long_edge_pixels: int) -> Any:
    """Return a smaller copy of decoded pixels, for a second derivative from the same decode."""
    # The orientation tag may still be present if `decode` did not follow it, and must not turn the pixels here.
    return image.thumbnail_image(long_edge_pixels, height=long_edge_pixels, size="down", no_rotate=True)


def turn_upright(image: Any, orientation: int) -> Any:
    """Return pixels turned and mirrored by an EXIF orientation, 1 to 8, so that they are upright."""
    if orientation == 1:
        return image
    # The orientation is set in a copy, because the decoded pixels may have another orientation tag.
    stored = image.copy()
    stored.set_type(vips.load_vips().GValue.gint_type, "orientation", orientation)
    return stored.autorot().copy_memory()


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


def _has_profile(header: Any) -> bool:
    return bool(header.get_typeof("icc-profile-data") != 0)


def _is_heif(header: Any) -> bool:
    return header.get_typeof("vips-loader") != 0 and str(header.get("vips-loader")).startswith("heifload")


def _without_decoder(name: str) -> UnsupportedCodec:
    advice = (
        "Add a JPEG of the same name." if pillow.can_read_heic() else "Install photojobs[formats] for more decoders."
    )
    return UnsupportedCodec(f"{name}: no installed decoder supports it. {advice}")


def _in_srgb(image: Any) -> Any:
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("srgb")
    if image.format != "uchar":
        image = image.cast("uchar")
    # A TIFF may have further channels after red, green, blue and alpha, which are dropped.
    return image if image.bands <= 4 else image[:4]


def _resized(image: Any, long_edge_pixels: int) -> Any:
    # `thumbnail_image` is not used, because it would convert the values to colors.
    scale = long_edge_pixels / max(image.width, image.height)
    return image.resize(scale) if scale < 1 else image


def _resized_lab(image: Any, long_edge_pixels: int) -> Any:
    if image.bands <= _LAB_BANDS:
        return _resized(image, long_edge_pixels)
    # Colors are weighted by their opacity, because `resize` would mix the colors of transparent pixels into the edges.
    weighted = _resized(image.premultiply(max_alpha=255), long_edge_pixels)
    return weighted.unpremultiply(max_alpha=255)


def _is_adobe_rgb(header: Any) -> bool:
    """Return whether a file without a profile is in Adobe RGB: DCF marks this by the interoperability index R03."""
    if header.interpretation != "srgb" or header.get_typeof("exif-data") == 0:
        return False
    return interoperability_index(bytes(header.get("exif-data"))) == "R03"


def _from_adobe_rgb(image: Any) -> Any:
    """Convert pixels from Adobe RGB (1998) to sRGB through XYZ. Both have the same white point."""
    pyvips = vips.load_vips()
    linear = (image[:3] / 255) ** (563 / 256)
    xyz = linear.recomb(pyvips.Image.new_from_array(_ADOBE_RGB_TO_XYZ)) * 100
    colors = xyz.copy(interpretation="xyz").colourspace("srgb")
    return colors if image.bands == 3 else colors.bandjoin(image[3])


def _in_memory(make: Callable[[], Any], *, name: str, max_seconds: float) -> Any:
    pyvips = vips.load_vips()
    vips.clear_errors()
    is_late = threading.Event()
    try:
        image = make()

        def stop() -> None:
            is_late.set()
            image.set_kill(True)

        timer = threading.Timer(max_seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return image.copy_memory()
        finally:
            timer.cancel()
    except pyvips.Error as error:
        if is_late.is_set():
            raise ImageTimeout(
                f"{name}: decoding took longer than {max_seconds:g} seconds. "
                "Raise image_seconds if it is a real picture."
            ) from error
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> UnreadableImage:
    if vips.is_unsupported_codec(error):
        return _without_decoder(name)
    return UnreadableImage(f"{name}: {vips.short_reason(error)}.")


def _output_profile_option() -> str:
    # Newer versions of libvips (about 8.17) renamed the option.
    known = vips.load_vips().Introspect.get("thumbnail_source").optional_input
    return "output_profile" if "output_profile" in known else "export_profile"
