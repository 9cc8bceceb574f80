"""Thumbnail and preview of one original, both from one decode, written whole or not at all."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from flows.imaging import decode, vips
from flows.imaging.encode import encode
from flows.imaging.errors import UnreadableImage
from flows.imaging.fingerprint import Fingerprint, fingerprint_of, fingerprint_with_hash
from flows.imaging.limits import DEFAULT_OPTIONS, ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import PhotoMetadata, metadata_of
from flows.imaging.raw import NoEmbeddedPreview, RawFile, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source
from storage.library.atomic_write import link_new, replacing, write_new


@dataclass(frozen=True, slots=True)
class WrittenImage:
    """A derivative that was written.

    Attributes:
        width: in pixels.
        height: in pixels.
        size_bytes: of the file.
    """

    width: int
    height: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Derivatives:
    """What became of an original.

    Attributes:
        status: `not_supported` where nothing here can decode it; then nothing was written.
        reason: why it is not supported, or None.
        orientation: EXIF orientation, 1 to 8, of the original; the derivatives are upright.
        width: of the upright original, in pixels; 0 where it is not supported.
        height: likewise.
        source: the original when it was opened; with its hash if that was asked for and it did not change meanwhile.
        thumbnail: what was written, or None where none was asked for.
        preview: likewise.
        metadata: what the original says about itself, if that was asked for and can be read.
    """

    status: Literal["generated", "not_supported"]
    reason: str | None
    orientation: int
    width: int
    height: int
    source: Fingerprint
    thumbnail: WrittenImage | None = None
    preview: WrittenImage | None = None
    metadata: PhotoMetadata | None = None

    @property
    def bytes_written(self) -> int:
        """The sizes of the files that were written."""
        return sum(written.size_bytes for written in (self.thumbnail, self.preview) if written is not None)


@dataclass(frozen=True, slots=True)
class _Decoded:
    pixels: Any
    orientation: int
    width: int
    height: int


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

    The file's contents decide how it is decoded, not its extension, except that RAW files are known by theirs and
    give their embedded preview. Metadata are left out. Made again, the same original gives the same files.

    Args:
        source: the original.
        thumbnail: where the thumbnail goes; a path that the library built. None: no thumbnail.
        preview: where the preview goes; likewise.
        options: what the image may cost, and how its derivatives are made.
        with_hash: take the hash of the contents, too, while the system has the file in memory.
        with_metadata: read the metadata, too.

    Raises:
        ImageMissing: there is no original.
        UnreadableImage: it is empty, damaged, cut off, or no image of an accepted format.
        ImageTooLarge: it is larger than the limits allow; it was not decoded.
        ImageTimeout: decoding took too long.
        FolderMissing: the folder of a derivative does not exist.
        OSError: the disk is full or fails.
    """

    def write(thumbnail: Path | None, preview: Path | None) -> Derivatives:
        return write_derivatives(
            source,
            thumbnail=thumbnail,
            preview=preview,
            options=options,
            with_hash=with_hash,
            with_metadata=with_metadata,
        )

    return replace_derivatives(write, thumbnail=thumbnail, preview=preview)


def replace_derivatives(
    write: Callable[[Path | None, Path | None], Derivatives], *, thumbnail: Path | None, preview: Path | None
) -> Derivatives:
    """Let derivatives be written to other names, flush them to the disk, and give them theirs.

    Args:
        write: writes a thumbnail and a preview to paths that it is given, as `write_derivatives` does.
        thumbnail: see `make_derivatives`.
        preview: likewise.
    """
    with replacing(*(path for path in (preview, thumbnail) if path is not None)) as temporaries:
        made = write(
            None if thumbnail is None else temporaries[thumbnail], None if preview is None else temporaries[preview]
        )
        if made.status != "generated":
            temporaries.clear()
    return made


def write_derivatives(
    source: Path,
    *,
    thumbnail: Path | None,
    preview: Path | None,
    options: ImageOptions,
    with_hash: bool,
    with_metadata: bool,
) -> Derivatives:
    """Do what `make_derivatives` does, but write to names that do not exist yet, and flush nothing to the disk."""
    wanted = [
        (path, rendition)
        for path, rendition in ((preview, options.preview), (thumbnail, options.thumbnail))
        if path is not None
    ]
    if not wanted:
        raise ValueError("neither a thumbnail nor a preview is asked for")
    metadata: PhotoMetadata | None = None
    reason: str | None = None
    with open_source(source) as file:
        edge = max(rendition.long_edge_pixels for _, rendition in wanted)
        if with_metadata:
            # If they cannot be read, the caller finds out why by asking for them alone.
            with contextlib.suppress(UnreadableImage):
                metadata = metadata_of(file)
        try:
            decoded: _Decoded | None = _decode(file, long_edge_pixels=edge, limits=options.limits)
        except (NoEmbeddedPreview, decode.UnsupportedCodec) as error:
            decoded, reason = None, str(error)
        fingerprint = fingerprint_with_hash(file) if with_hash else fingerprint_of(file)
    if decoded is None:
        return Derivatives("not_supported", reason, 1, 0, 0, fingerprint, metadata=metadata)
    written = _write_all(decoded.pixels, wanted)
    return Derivatives(
        status="generated",
        reason=None,
        orientation=decoded.orientation,
        width=decoded.width,
        height=decoded.height,
        source=fingerprint,
        metadata=metadata,
        thumbnail=None if thumbnail is None else written[thumbnail],
        preview=None if preview is None else written[preview],
    )


def _decode(file: SourceFile, *, long_edge_pixels: int, limits: ImageLimits) -> _Decoded:
    if has_raw_name(file):
        raw = read_raw(file, with_preview=True)
        return _decode_raw(file, raw, long_edge_pixels=long_edge_pixels, limits=limits)
    image = decode.open_image(file)
    decode.check_image(image, name=file.name, limits=limits)
    pixels = decode.decode(image, long_edge_pixels=long_edge_pixels, name=file.name, max_seconds=limits.max_seconds)
    orientation = image.orientation or 1
    return _Decoded(pixels, orientation, *upright_size(image.width, image.height, orientation))


def _decode_raw(file: SourceFile, raw: RawFile, *, long_edge_pixels: int, limits: ImageLimits) -> _Decoded:
    decode.check_size(raw.width, raw.height, name=file.name, limits=limits)
    if raw.jpeg is not None:
        pixels = _decode_embedded(raw.jpeg, raw, file.name, long_edge_pixels=long_edge_pixels, limits=limits)
    else:
        image = vips.load_vips().Image.new_from_memory(raw.pixels, raw.pixels_width, raw.pixels_height, 3, "uchar")
        pixels = decode.reduce(image.copy(interpretation="srgb"), long_edge_pixels=long_edge_pixels).copy_memory()
        if _lies_as_the_sensor(image, raw):
            pixels = decode.turn_upright(pixels, raw.orientation)
    width, height = upright_size(raw.width, raw.height, raw.orientation)
    return _Decoded(pixels, raw.orientation, width, height)


def _decode_embedded(jpeg: bytes, raw: RawFile, name: str, *, long_edge_pixels: int, limits: ImageLimits) -> Any:
    preview = decode.open_memory(jpeg, name)
    decode.check_image(preview, name=name, limits=limits)
    # Some cameras turn the preview themselves; LibRaw gives such a one the orientation of the sensor all the same.
    is_to_turn = _lies_as_the_sensor(preview, raw)
    pixels = decode.decode(
        preview,
        long_edge_pixels=long_edge_pixels,
        name=name,
        max_seconds=limits.max_seconds,
        follow_orientation=is_to_turn,
    )
    is_turned = (preview.orientation or 1) != 1
    return decode.turn_upright(pixels, raw.orientation) if is_to_turn and not is_turned else pixels


def _lies_as_the_sensor(image: Any, raw: RawFile) -> bool:
    is_quarter_turn = raw.orientation >= 5
    return not is_quarter_turn or (image.width >= image.height) == (raw.width >= raw.height)


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of a picture once it has been turned upright."""
    return (height, width) if orientation >= 5 else (width, height)


def _write_all(pixels: Any, wanted: list[tuple[Path, Rendition]]) -> dict[Path, WrittenImage]:
    if len(wanted) > 1 and all(_fits(pixels, rendition) for _, rendition in wanted):
        return _write_both(pixels, wanted)
    written: dict[Path, WrittenImage] = {}
    failures: list[BaseException] = []

    def write(path: Path, rendition: Rendition) -> None:
        try:
            written[path] = _write(pixels, path, rendition)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the caller.
            failures.append(error)

    # WebP encodes in one thread, so a second one is free for the thumbnail where libvips may use it.
    beside = [threading.Thread(target=write, args=job) for job in wanted[1:] if vips.threads() > 1]
    for thread in beside:
        thread.start()
    for job in wanted if not beside else wanted[:1]:
        write(*job)
    for thread in beside:
        thread.join()
    if failures:
        raise failures[0]
    return written


def _fits(pixels: Any, rendition: Rendition) -> bool:
    longer: int = max(pixels.width, pixels.height)
    return longer <= rendition.long_edge_pixels


def _write_both(pixels: Any, wanted: list[tuple[Path, Rendition]]) -> dict[Path, WrittenImage]:
    """Write derivatives that show the same pixels: one file with two names, in the better of their qualities."""
    (first, _), (second, _) = wanted
    written = _write(pixels, first, max((rendition for _, rendition in wanted), key=attrgetter("quality")))
    link_new(second, first)
    return {first: written, second: written}


def _write(pixels: Any, path: Path, rendition: Rendition) -> WrittenImage:
    image = pixels if _fits(pixels, rendition) else decode.reduce(pixels, long_edge_pixels=rendition.long_edge_pixels)
    encoded = encode(image, rendition)
    write_new(path, encoded)
    return WrittenImage(image.width, image.height, len(encoded))
