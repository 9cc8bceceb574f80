"""Decodes an open original to upright sRGB pixels with 8 bits per channel.

For RAW files, callers pass the embedded preview. `thumbnail_and_preview` writes the derivatives, and
decides whether the preview of a RAW file is turned. `open_image` decides which orientation of a file counts.
"""

import threading
from collections.abc import Callable
from typing import Any

from flows.imaging.errors import ImageTimeout, UnreadableImage
from flows.imaging.headers.containers import jpeg_sample_bits
from flows.imaging.headers.tiff_pixels import Numbers
from flows.imaging.pixels import pillow, vips
from flows.imaging.pixels.open_image import (
    FAIL_ON,
    ColorsNotDefined,
    OpenImage,
    UnsupportedCodec,
    has_color_profile,
    open_memory,
    read_header,
    unreadable,
    without_decoder,
)
from flows.imaging.pixels.srgb import as_srgb, from_adobe_rgb, is_adobe_rgb, resized, resized_lab

#: The edge of a small test decode, which shows whether a decoder is available.
_PROBE_PIXELS = 64

_JPEG_END = b"\xff\xd9"
#: The bits per sample that JPEG decoders support. Medical devices write JPEGs with 12 bits.
_JPEG_SAMPLE_BITS = 8
#: The largest JPEG that is read into memory to append a missing end marker.
_MAX_OPEN_END_BYTES = 256 << 20

#: The edge of the reduced copy in which the range of the values is checked.
_RANGE_PIXELS = 512


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
        raise without_decoder(image.name)


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
        raise without_decoder(image.name)
    sizes: dict[str, Any] = {"height": long_edge_pixels, "size": "down"}
    if image.colors is None and (has_color_profile(other) or other.interpretation == "cmyk"):
        sizes[vips.output_profile_option()] = "srgb"

    def in_srgb() -> Any:
        reduced = other.thumbnail_image(long_edge_pixels, **sizes)
        return as_srgb(reduced if image.colors is None else image.colors.to_srgb(reduced))

    return _in_memory(in_srgb, name=image.name, max_seconds=max_seconds)


def _with_its_end(image: OpenImage, *, max_seconds: float) -> OpenImage | None:
    """Return a JPEG with an appended end marker if only this marker is missing; None for other or very large files."""
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
    has_profile = has_color_profile(header)
    if image.colors is None and (has_profile or header.interpretation == "cmyk"):
        # Only these images are converted here. Most others are already in sRGB, and a conversion would take longer than
        # all other work.
        options[vips.output_profile_option()] = "srgb"

    def reduced() -> Any:
        if pixels is not None and pixels.is_lab:
            lab = resized_lab(pixels.to_plain(header), long_edge_pixels).copy(interpretation="lab")
            colors = lab.icc_export(output_profile="srgb")
            return colors.autorot() if follow_orientation else colors
        if pixels is not None and not pixels.is_plain(header):
            return pixels.to_plain(header).thumbnail_image(long_edge_pixels, **options)
        if image.colors is not None and header.format == "ushort" and header.bands in (1, 3):
            # `thumbnail_source` is not used, because it rounds the values to 8 bits. In an HDR picture, the sky would
            # show steps.
            deep = resized(read_header(image.source, image.name), long_edge_pixels)
            return deep.autorot() if follow_orientation else deep
        # `fail_on` is part of the load options, because libvips ignores it as a separate option for sources (issue
        # 5195). Without it, libvips would accept half a file.
        load_options = f"fail_on={FAIL_ON}"
        if image.is_heif or pixels is not None:
            # `thumbnail_source` would decode the thumbnail in a HEIF file, which may have black bars, or be older than
            # the picture; and of a TIFF, another page if all later pages are half as large as the page before.
            load_options += ",unlimited" if pixels is None else f",page={pixels.page}"
            load = vips.load_vips().Image.new_from_source
            whole = load(image.source, f"[{load_options}]", access="sequential")
            return whole.thumbnail_image(long_edge_pixels, **options)
        return vips.load_vips().Image.thumbnail_source(
            image.source, long_edge_pixels, option_string=f"[{load_options}]", **options
        )

    def in_srgb() -> Any:
        if image.colors is not None:
            return as_srgb(image.colors.to_srgb(reduced()))
        return as_srgb(from_adobe_rgb(reduced()) if not has_profile and is_adobe_rgb(header) else reduced())

    _check_range(image, max_seconds=max_seconds)
    return _in_memory(in_srgb, name=image.name, max_seconds=max_seconds)


def _check_range(image: OpenImage, *, max_seconds: float) -> None:
    if image.pixels is None or image.pixels.numbers is not Numbers.FLOAT:
        return
    # The header is read again, because the pixels of a libvips image can be read only once.
    values = read_header(image.source, image.name, page=image.pixels.page).copy(interpretation="multiband")
    small = _in_memory(lambda: resized(values, _RANGE_PIXELS), name=image.name, max_seconds=max_seconds)
    if not image.pixels.is_in_range(small):
        raise ColorsNotDefined(
            f"{image.name}: the values of the pixels are not from 0 to 1, and the file does not define the value of "
            "white. Save a copy as sRGB with another program."
        )


def reduce(image: Any, *, long_edge_pixels: int) -> Any:
    """Return a copy of decoded pixels, reduced to the given edge but never enlarged."""
    # The orientation tag may still be present if `decode` did not follow it, and must not turn the pixels here.
    return image.thumbnail_image(long_edge_pixels, height=long_edge_pixels, size="down", no_rotate=True)


def turn_upright(image: Any, orientation: int) -> Any:
    """Return pixels turned and mirrored by an EXIF orientation, 1 to 8, so that they are upright."""
    if orientation == 1:
        return image
    # The pixels may have another orientation tag, so the tag is set. A copy gets it, because callers keep `image`.
    stored = image.copy()
    stored.set_type(vips.load_vips().GValue.gint_type, "orientation", orientation)
    return stored.autorot().copy_memory()


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
                f"{name}: decoding took longer than {max_seconds:g} seconds and was stopped. "
                "Raise the setting image_seconds if the file is a real picture."
            ) from error
        raise unreadable(error, name) from error
