"""Predicts from headers whether the derivatives of an original can be made, which is much faster than making them.

The prediction does not include damage that only a full decode shows, such as a truncated picture.
"""

from pathlib import Path

from flows.imaging.fingerprint import fingerprint_of
from flows.imaging.limits import DEFAULT_LIMITS, ImageLimits
from flows.imaging.pixels import decode
from flows.imaging.pixels.raw import NoEmbeddedPreview, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source
from flows.imaging.thumbnail_and_preview import Derivatives, upright_size


def inspect_image(source: Path, *, limits: ImageLimits = DEFAULT_LIMITS) -> Derivatives:
    """Return the expected result of `make_derivatives` for an original, without writing files.

    Raises:
        ImageMissing: the original does not exist.
        UnreadableImage: the file is empty, not an image of an accepted format, or its header is damaged.
        ImageTooLarge: the image is larger than the limits allow.
        ImageTimeout: the test decode, which some formats need, took too long.
    """
    with open_source(source) as file:
        try:
            orientation, width, height = _look(file, limits)
        except (NoEmbeddedPreview, decode.UnsupportedCodec) as error:
            return Derivatives("not_supported", str(error), 1, 0, 0, fingerprint_of(file))
    return Derivatives("generated", None, orientation, width, height, fingerprint_of(file))


def _look(file: SourceFile, limits: ImageLimits) -> tuple[int, int, int]:
    if has_raw_name(file):
        raw = read_raw(file, with_preview=True)
        decode.check_size(raw.width, raw.height, name=file.name, limits=limits)
        if raw.jpeg is not None:
            preview = decode.open_memory(raw.jpeg, file.name)
            decode.check_image(preview, limits=limits)
        return (raw.orientation, *upright_size(raw.width, raw.height, raw.orientation))
    image = decode.open_image(file)
    decode.check_image(image, limits=limits)
    decode.check_codec(image, max_seconds=limits.max_seconds)
    orientation = image.orientation or 1
    return (orientation, *upright_size(image.width, image.height, orientation))
