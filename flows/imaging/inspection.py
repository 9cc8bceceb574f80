"""What would become of an original if its derivatives were made, told by headers, in a fraction of the time.

What only decoding finds out, such as a picture that was cut off in its middle, is not seen here.
"""

from pathlib import Path

from flows.imaging import decode
from flows.imaging.fingerprint import fingerprint_of
from flows.imaging.limits import DEFAULT_LIMITS, ImageLimits
from flows.imaging.raw import NoEmbeddedPreview, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source
from flows.imaging.thumbnail_and_preview import Derivatives, upright_size


def inspect_image(source: Path, *, limits: ImageLimits = DEFAULT_LIMITS) -> Derivatives:
    """What `make_derivatives` would say of an original, but for the files that it would write.

    Raises:
        ImageMissing: there is no original.
        UnreadableImage: it is empty, no image of an accepted format, or its header is damaged.
        ImageTooLarge: it is larger than the limits allow.
        ImageTimeout: a format that has to be decoded took too long.
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
            decode.check_image(preview, name=file.name, limits=limits)
        return (raw.orientation, *upright_size(raw.width, raw.height, raw.orientation))
    image = decode.open_image(file)
    decode.check_image(image, name=file.name, limits=limits)
    decode.check_codec(image, name=file.name, max_seconds=limits.max_seconds)
    orientation = image.orientation or 1
    return (orientation, *upright_size(image.width, image.height, orientation))
