"""Makes the thumbnail and the preview of an original by decoding it once. If one cannot be made, neither is written.

`inspect_image` predicts from the header of an original whether its derivatives can be made.
`SOURCE_ORDER` in `storage.library.naming.kinds` decides from which file of a photo they are made, and
`flows.steps.images.derivative_steps` decides when.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from flows.imaging.errors import UnreadableImage
from flows.imaging.fingerprint import Fingerprint, fingerprint_of, fingerprint_with_hash
from flows.imaging.limits import DEFAULT_LIMITS, DEFAULT_OPTIONS, ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import PhotoMetadata, metadata_of
from flows.imaging.pixels import decode, vips
from flows.imaging.pixels.encode import encode
from flows.imaging.pixels.open_image import OpenImage, UnsupportedCodec, open_image, open_memory
from flows.imaging.pixels.raw import NoEmbeddedPreview, RawFile, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source
from storage.library.atomic_write import link_new, replacing, write_new


@dataclass(frozen=True, slots=True)
class WrittenImage:
    """A derivative that was written, with its width and height in pixels."""

    width: int
    height: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Derivatives:
    """The result of making the derivatives of an original.

    Attributes:
        status: `generated`, or `not_supported` if no installed decoder supports the original and no file was written.
        reason: the reason why the original is not supported; None if it is supported.
        source: the fingerprint of the original when it was opened. It has a hash if a hash was requested and the file
            did not change while it was read.
        thumbnail, preview: the written files; None if they were not requested.
        metadata: the metadata of the original; None if they were not requested or cannot be read.
    """

    status: Literal["generated", "not_supported"]
    reason: str | None
    source: Fingerprint
    thumbnail: WrittenImage | None = None
    preview: WrittenImage | None = None
    metadata: PhotoMetadata | None = None


def make_derivatives(
    source: Path,
    *,
    thumbnail: Path | None = None,
    preview: Path | None = None,
    options: ImageOptions = DEFAULT_OPTIONS,
    with_hash: bool = False,
    with_metadata: bool = False,
) -> Derivatives:
    """Write the thumbnail, the preview or both of an original as WebP: upright, in sRGB, never enlarged.

    The format is found from the contents of the file, except that RAW files are recognized by their extension. The
    derivatives of a RAW file are made from its embedded preview. Derivatives contain no metadata. The same original
    and options always give the same files.

    Args:
        source: the original.
        thumbnail: the path of the thumbnail, from `storage.library`; None for no thumbnail.
        preview: the path of the preview, from `storage.library`; None for no preview.
        options: the limits for the image, and the properties of its derivatives.
        with_hash: whether to compute the hash of the contents too, while the system has the file in memory.
        with_metadata: whether to read the metadata too.

    Raises:
        ImageMissing: the original does not exist.
        UnreadableImage: the original is empty, damaged, truncated, or not an image of an accepted format.
        ImageTooLarge: the original is larger than the limits allow and was not decoded.
        ImageTimeout: decoding took too long.
        FolderMissing: the folder of a derivative does not exist.
        OSError: the disk is full or fails.
    """
    write = partial(write_derivatives, source, options=options, with_hash=with_hash, with_metadata=with_metadata)
    return replace_derivatives(write, thumbnail=thumbnail, preview=preview)


def replace_derivatives(
    write: Callable[[Path | None, Path | None], Derivatives], *, thumbnail: Path | None, preview: Path | None
) -> Derivatives:
    """Write derivatives under temporary names, flush them to the disk, and rename them to the given paths.

    The function `write` gets the temporary paths of the thumbnail and the preview; `write_derivatives` is an example.
    """
    with replacing(*(path for path in (preview, thumbnail) if path is not None)) as temporaries:
        made = write(*(None if path is None else temporaries[path] for path in (thumbnail, preview)))
        if made.status != "generated":
            temporaries.clear()
    return made


def write_derivatives(
    source: Path,
    thumbnail: Path | None,
    preview: Path | None,
    *,
    options: ImageOptions,
    with_hash: bool,
    with_metadata: bool,
) -> Derivatives:
    """Write derivatives like `make_derivatives`, but do not sync them to the disk.

    If a file already exists at one of the paths, the call fails.
    """
    wanted = [
        (path, rendition)
        for path, rendition in ((preview, options.preview), (thumbnail, options.thumbnail))
        if path is not None
    ]
    if not wanted:
        raise ValueError(f"{source.name}: neither a thumbnail nor a preview was requested; give at least one path")
    metadata: PhotoMetadata | None = None
    reason: str | None = None
    with open_source(source) as file:
        edge = max(rendition.long_edge_pixels for _, rendition in wanted)
        if with_metadata:
            # If the metadata cannot be read, the caller calls `read_metadata`, which raises the error.
            with contextlib.suppress(UnreadableImage):
                metadata = metadata_of(file)
        try:
            image, raw = _open(file, options.limits)
            pixels = _decode(image, raw, long_edge_pixels=edge, max_seconds=options.limits.max_seconds)
        except (NoEmbeddedPreview, UnsupportedCodec) as error:
            reason = str(error)
        fingerprint = fingerprint_with_hash(file) if with_hash else fingerprint_of(file)
    if reason is not None:
        return Derivatives("not_supported", reason, fingerprint, metadata=metadata)
    written = _write_all(pixels, wanted)
    return Derivatives(
        "generated",
        None,
        fingerprint,
        thumbnail=None if thumbnail is None else written[thumbnail],
        preview=None if preview is None else written[preview],
        metadata=metadata,
    )


def inspect_image(source: Path, *, limits: ImageLimits = DEFAULT_LIMITS) -> Derivatives:
    """Return the expected result of `make_derivatives` for an original, without writing files.

    The prediction is much faster for most formats, because it reads only their headers; some formats need a test
    decode. It does not include damage that only a full decode shows, such as a truncated picture.

    Raises:
        ImageMissing: the original does not exist.
        UnreadableImage: the file is empty, not an image of an accepted format, or its header is damaged.
        ImageTooLarge: the image is larger than the limits allow.
        ImageTimeout: the test decode, which some formats need, took too long.
    """
    with open_source(source) as file:
        fingerprint = fingerprint_of(file)
        try:
            image, raw = _open(file, limits)
            if image is not None and raw is None:
                decode.check_codec(image, max_seconds=limits.max_seconds)
        except (NoEmbeddedPreview, UnsupportedCodec) as error:
            return Derivatives("not_supported", str(error), fingerprint)
    return Derivatives("generated", None, fingerprint)


def _open(file: SourceFile, limits: ImageLimits) -> tuple[OpenImage | None, RawFile | None]:
    """Return the picture of an original, and the header of a RAW file or None for other files.

    The picture of a RAW file is its embedded preview, or None if the preview is not a JPEG.
    """
    raw = read_raw(file, with_preview=True) if has_raw_name(file) else None
    if raw is None:
        image: OpenImage | None = open_image(file)
    else:
        limits.check(raw.width, raw.height, name=file.name)
        image = None if raw.jpeg is None else open_memory(raw.jpeg, file.name)
    if image is not None:
        limits.check(image.width, image.height, name=image.name, whole_bytes=image.whole_bytes)
    return image, raw


def _decode(image: OpenImage | None, raw: RawFile | None, *, long_edge_pixels: int, max_seconds: float) -> Any:
    if image is None:
        assert raw is not None  # noqa: S101 - only a RAW file has no image.
        stored = vips.load_vips().Image.new_from_memory(raw.pixels, raw.pixels_width, raw.pixels_height, 3, "uchar")
        pixels = decode.reduce(stored.copy(interpretation="srgb"), long_edge_pixels=long_edge_pixels).copy_memory()
        return decode.turn_upright(pixels, raw.orientation) if _lies_as_the_sensor(stored, raw) else pixels
    # Some cameras store a preview that is already upright, although LibRaw reports the orientation of the sensor, so
    # such a preview is not turned.
    is_to_turn = raw is None or _lies_as_the_sensor(image, raw)
    pixels = decode.decode(
        image, long_edge_pixels=long_edge_pixels, max_seconds=max_seconds, follow_orientation=is_to_turn
    )
    if raw is None or not is_to_turn or (image.orientation or 1) != 1:
        return pixels
    return decode.turn_upright(pixels, raw.orientation)


def _lies_as_the_sensor(image: Any, raw: RawFile) -> bool:
    is_quarter_turn = raw.orientation >= 5
    return not is_quarter_turn or (image.width >= image.height) == (raw.width >= raw.height)


def _write_all(pixels: Any, wanted: list[tuple[Path, Rendition]]) -> dict[Path, WrittenImage]:
    if len(wanted) > 1 and all(_fits(pixels, rendition) for _, rendition in wanted):
        return _write_both(pixels, wanted)
    # WebP uses one thread for an image. If libvips may use several, another thread encodes the second derivative.
    with ThreadPoolExecutor(min(len(wanted), vips.threads())) as threads:
        written = threads.map(lambda job: _write(pixels, *job), wanted)
        return dict(zip((path for path, _ in wanted), written, strict=True))


def _fits(pixels: Any, rendition: Rendition) -> bool:
    longer: int = max(pixels.width, pixels.height)
    return longer <= rendition.long_edge_pixels


def _write_both(pixels: Any, wanted: list[tuple[Path, Rendition]]) -> dict[Path, WrittenImage]:
    """Write equal pixels once, in the higher quality, and give the file both names (see `link_new`)."""
    (first, _), (second, _) = wanted
    written = _write(pixels, first, max((rendition for _, rendition in wanted), key=attrgetter("quality")))
    link_new(second, first)
    return {first: written, second: written}


def _write(pixels: Any, path: Path, rendition: Rendition) -> WrittenImage:
    image = pixels if _fits(pixels, rendition) else decode.reduce(pixels, long_edge_pixels=rendition.long_edge_pixels)
    encoded = encode(image, rendition)
    write_new(path, encoded)
    return WrittenImage(image.width, image.height, len(encoded))
