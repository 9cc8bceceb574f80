"""From an open original to upright pixels in sRGB, 8 bits a channel, no larger than asked, within the limits.

Only pixels: RAW files come in as their embedded preview, and what is written where is said by `derivatives`.
"""

import threading
from collections.abc import Callable
from typing import Any

from flows.imaging import vips
from flows.imaging.containers import needs_a_decoder_of_its_own
from flows.imaging.errors import ImageTimeout, ImageTooLarge, UnreadableImage
from flows.imaging.limits import ImageLimits
from flows.imaging.source_file import SourceFile

# Anything the decoder is sure to be wrong about; harmless oddities that cameras write are only warnings.
_FAIL_ON = "error"


class UnsupportedCodec(UnreadableImage):
    """The file needs a decoder that this build of libvips does not have, as HEIC does."""


def read_header(source: Any, name: str) -> Any:
    """The image of a `pyvips.Source`, of which nothing but the header has been read yet.

    Raises:
        UnreadableImage: it is no image of an accepted format, or its header is damaged.
        UnsupportedCodec: it is one that this build has no decoder for.
    """
    pyvips = vips.load_vips()
    vips.clear_errors()
    try:
        return pyvips.Image.new_from_source(source, "", access="sequential", fail_on=_FAIL_ON)
    except pyvips.Error as error:
        raise _unreadable(error, name) from error


def read_file_header(file: SourceFile) -> tuple[Any, Any]:
    """The `pyvips.Source` of an open file, and its header.

    Raises:
        UnreadableImage: it is no image of an accepted format, or its header is damaged.
        UnsupportedCodec: it is one that this build has no decoder for.
    """
    source = vips.load_vips().Source.new_from_descriptor(file.descriptor)
    try:
        return source, read_header(source, file.name)
    except UnreadableImage as error:
        if needs_a_decoder_of_its_own(file.read_at(0, 12)):
            raise UnsupportedCodec(f"{file.name}: this build of libvips has no decoder for it.") from error
        raise


def check_size(width: int, height: int, *, name: str, limits: ImageLimits) -> None:
    """Refuse an image before it is decoded.

    Raises:
        ImageTooLarge: it has too many pixels, or one edge is too long.
    """
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} pixels are more than the limit of {limits.max_pixels / 10**6:,g} "
            "megapixels. Raise max_image_megapixels if it is a real picture."
        )
    if max(width, height) > limits.max_edge_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} pixels have an edge longer than the limit of {limits.max_edge_pixels:,}."
        )


def decode(
    source: Any, header: Any, *, long_edge_pixels: int, name: str, max_seconds: float, follow_orientation: bool = True
) -> Any:
    """Decode into memory: upright, in sRGB, 8 bits a channel, the longer edge at most as given, never enlarged.

    Transparency stays. The memory that it takes depends on `long_edge_pixels`, not on the original, unless the
    format can only be decoded as a whole.

    Args:
        source: the `pyvips.Source` that the header came from.
        header: what `read_header` gave.
        long_edge_pixels: of the result.
        name: the file's name, for messages.
        max_seconds: how long it may take.
        follow_orientation: whether to do what the orientation in the header says.

    Raises:
        UnreadableImage: it is damaged or cut off.
        UnsupportedCodec: it is one that this build has no decoder for.
        ImageTimeout: it took too long.
    """
    pyvips = vips.load_vips()
    # Its own fail_on is ignored for sources (libvips issue 5195), so that half a file would become half a picture.
    options: dict[str, Any] = {"height": long_edge_pixels, "size": "down", "option_string": f"[fail_on={_FAIL_ON}]"}
    if header.get_typeof("icc-profile-data") != 0 or header.interpretation == "cmyk":
        # Only then: converting an image without a profile from sRGB to sRGB would take longer than all the rest.
        options[_output_profile_option()] = "srgb"
    if not follow_orientation:
        options["no_rotate"] = True

    def reduced() -> Any:
        return _in_srgb(pyvips.Image.thumbnail_source(source, long_edge_pixels, **options))

    return _in_memory(reduced, name=name, max_seconds=max_seconds)


def reduce(image: Any, *, long_edge_pixels: int) -> Any:
    """A smaller copy of decoded pixels, for a second derivative from the same decode."""
    # The orientation has been seen to, but where pixels were to stay as they lie its tag is still there.
    return image.thumbnail_image(long_edge_pixels, height=long_edge_pixels, size="down", no_rotate=True)


def turn_upright(image: Any, orientation: int) -> Any:
    """Turn and mirror pixels that are stored as an EXIF orientation, 1 to 8, describes."""
    if orientation == 1:
        return image
    # A copy: decoded pixels may belong to a file whose own orientation has been followed already.
    stored = image.copy()
    stored.set_type(vips.load_vips().GValue.gint_type, "orientation", orientation)
    return stored.autorot().copy_memory()


def stored_orientation(header: Any) -> int | None:
    """The orientation, 1 to 8, of the stored pixels by which `header` measures them, or None if the file has none.

    HEIF files have their own turns and mirrorings, which libvips follows: their EXIF orientation is history.
    """
    if header.get_typeof("orientation") == 0:
        return None
    if header.get("vips-loader").startswith("heifload"):
        return 1
    orientation = header.get("orientation")
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None


def _in_srgb(image: Any) -> Any:
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("srgb")
    if image.format != "uchar":
        image = image.cast("uchar")
    # TIFF may have further channels after red, green, blue and alpha.
    return image if image.bands <= 4 else image[:4]


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
            raise ImageTimeout(f"{name}: decoding took longer than {max_seconds:g} seconds.") from error
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> UnreadableImage:
    if vips.is_unsupported_codec(error):
        return UnsupportedCodec(f"{name}: this build of libvips has no decoder for it.")
    return UnreadableImage(f"{name}: {vips.short_reason(error)}.")


def _output_profile_option() -> str:
    # Renamed in libvips 8.17 or so; the old name is the only one before.
    known = vips.load_vips().Introspect.get("thumbnail_source").optional_input
    return "output_profile" if "output_profile" in known else "export_profile"
