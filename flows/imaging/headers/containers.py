"""Finds the EXIF block, the XMP packet and the IPTC block in files of many formats.

The module reads TIFF, RAF, MRW, CRW, X3F, CR3, PNG, JPEG XL, JPEG 2000 and JPEG files, up to limits of size and number.
Broken files raise no errors. `exif`, `xmp` and `iptc` read the contents of the blocks.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from flows.imaging.headers.exif import (
    MAX_BLOCK_BYTES,
    MAX_XMP_BYTES,
    ExifTags,
    iptc_of_tiff,
    plain_text,
    read_exif_block,
    read_tiff,
    xmp_of_tiff,
)
from flows.imaging.headers.iptc import iptc_of_resources
from flows.imaging.headers.tiff import Reader, is_tiff

_MAX_PARTS: Final = 1000
_XMP_MARK: Final = b"http://ns.adobe.com/xap/1.0/\0"
_RESOURCES_MARK: Final = b"Photoshop 3.0\0"
#: The markers of JPEG frame headers, which describe how the pixels are stored.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_CANON_BOX: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_XMP_BOX: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_JPEG2000_EXIF_BOX: Final = b"JpgTiffExif->JP2"


@dataclass(frozen=True, slots=True)
class EmbeddedMetadata:
    """The metadata in a file, read without a decoder.

    Attributes:
        tags: the tags of the EXIF block, or of the format's own equivalent.
        xmp: the XMP packet; None if the file has none.
        iptc: the IPTC block; empty if the file has none.
    """

    tags: ExifTags = field(default_factory=ExifTags)
    xmp: bytes | None = None
    iptc: bytes = b""


def read_embedded(read_at: Reader, *, size_bytes: int) -> EmbeddedMetadata:
    """Return the metadata of a file, whose format is found from its first bytes. An unknown format has no metadata."""
    head = read_at(0, 32)
    if is_tiff(head[:4]):
        return EmbeddedMetadata(read_tiff(read_at), xmp_of_tiff(read_at), iptc_of_tiff(read_at))
    if head.startswith(b"\xff\xd8\xff"):
        return _of_jpeg(read_at, 0)
    if head.startswith(b"FUJIFILMCCD-RAW"):
        return _of_jpeg(read_at, number(">I", read_at(84, 4)))
    if head.startswith(b"\0MRM"):
        return _of_minolta(read_at)
    if head.startswith(b"FOVb"):
        return _of_sigma(read_at, size_bytes)
    if head[6:14] == b"HEAPCCDR":
        return EmbeddedMetadata(_of_ciff(read_at, number("<I", head[2:6]), size_bytes))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _of_png(read_at, size_bytes)
    if head[4:8] in (b"ftyp", b"JXL ", b"jP  "):
        return _of_boxes(read_at, size_bytes)
    return EmbeddedMetadata()


def needs_a_decoder_of_its_own(head: bytes) -> bool:
    """Return whether a file with these first bytes needs Pillow, because libvips cannot decode its format.

    These formats are JPEG XL, JPEG 2000 and HEIF sequences. Pillow may be unable to decode them too.
    """
    if head.startswith((b"\xff\x0a", b"\xff\x4f\xff\x51")) or head[4:8] in (b"JXL ", b"jP  "):
        return True
    return head[4:8] == b"ftyp" and head[8:12] in (b"avis", b"hevc", b"hevx", b"msf1")


def number(form: str, data: bytes) -> int:
    """Return the integer that the bytes encode in a `struct` format such as `>H`; 0 if the number of bytes is wrong."""
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0


def _within(read_at: Reader, start: int) -> Reader:
    return lambda offset, size_bytes: read_at(start + offset, size_bytes)


def _jpeg_segments(read_at: Reader, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield, for each segment before the pixels, its marker's second byte and the offset and length of its contents."""
    at = start + 2
    if read_at(start, 2) != b"\xff\xd8":
        return
    for _ in range(_MAX_PARTS):
        marker = read_at(at, 4)
        # The marker DA begins the compressed pixels. All segments of interest come before this marker, so the search
        # ends here.
        if len(marker) < 4 or marker[0] != 0xFF or marker[1] == 0xDA:
            return
        if marker[1] == 0xFF:
            # Any number of FF bytes may precede a marker.
            at += 1
            continue
        length = number(">H", marker[2:])
        yield marker[1], at + 4, max(length - 2, 0)
        at += 2 + length


def jpeg_sample_bits(read_at: Reader) -> int | None:
    """Return how many bits each sample of a JPEG has; None if the file is not a JPEG, or is broken."""
    for kind, at, _ in _jpeg_segments(read_at, 0):
        if kind in _JPEG_FRAMES:
            return next(iter(read_at(at, 1)), None)
    return None


def _of_jpeg(read_at: Reader, start: int) -> EmbeddedMetadata:
    tags, xmp, resources = ExifTags(), None, b""
    for kind, at, length in _jpeg_segments(read_at, start):
        if kind in (0xE1, 0xED):
            body = read_at(at, length)
            if body.startswith(_RESOURCES_MARK) and len(resources) < MAX_BLOCK_BYTES:
                # A block of resources that is larger than a segment continues in the next segment.
                resources += body[len(_RESOURCES_MARK) :]
            elif body.startswith(b"Exif\0") and tags == ExifTags():
                tags = read_exif_block(body)
            elif body.startswith(_XMP_MARK):
                xmp = xmp or body[len(_XMP_MARK) :]
    return EmbeddedMetadata(tags, xmp, iptc_of_resources(resources))


def _of_minolta(read_at: Reader) -> EmbeddedMetadata:
    at, end = 8, 8 + number(">I", read_at(4, 4))
    for _ in range(_MAX_PARTS):
        name, length = read_at(at, 4), number(">I", read_at(at + 4, 4))
        if name == b"\0TTW":
            return EmbeddedMetadata(read_tiff(_within(read_at, at + 8)))
        at += 8 + length
        if len(name) < 4 or at >= end:
            break
    return EmbeddedMetadata()


def _of_sigma(read_at: Reader, size_bytes: int) -> EmbeddedMetadata:
    directory = number("<I", read_at(size_bytes - 4, 4))
    found, properties = EmbeddedMetadata(), ExifTags()
    for index in range(min(number("<I", read_at(directory + 8, 4)), _MAX_PARTS)):
        entry = read_at(directory + 12 + 12 * index, 12)
        if len(entry) < 12:
            break
        offset, length, kind = struct.unpack("<II4s", entry)
        if kind in (b"IMAG", b"IMA2") and found.tags == ExifTags():
            found = _of_jpeg(read_at, offset + 28)
        elif kind == b"PROP":
            properties = _of_sigma_properties(read_at(offset, min(length, MAX_BLOCK_BYTES)))
    return replace(found, tags=found.tags.completed_by(properties))


def _of_sigma_properties(section: bytes) -> ExifTags:
    """Return the tags of an older Sigma camera.

    The file has a UTF-16 text, and pairs of offsets into this text: the offset of a tag's name and of its value, both
    in characters.
    """
    count = min(number("<I", section[8:12]), _MAX_PARTS)
    text = section[24 + 8 * count :].decode("utf-16-le", errors="replace")
    pairs = [struct.unpack_from("<II", section, 24 + 8 * index) for index in range(count) if text]
    values = {text[name:].split("\0", 1)[0]: text[value:].split("\0", 1)[0] for name, value in pairs}
    return ExifTags(
        taken_at=_unix_moment(values.get("TIME", "")),
        make=plain_text(values.get("CAMMANUF")),
        model=plain_text(values.get("CAMMODEL")),
    )


def _unix_moment(seconds: str) -> str | None:
    # The camera computes the seconds since 1970 as if its local time were UTC, so the conversion to UTC gives the local
    # time.
    if not re.fullmatch(r"[0-9]{1,10}", seconds) or int(seconds) == 0:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _of_ciff(read_at: Reader, heap: int, size_bytes: int) -> ExifTags:
    """Return the tags of a Canon CRW file.

    The file is a heap: a block of data that ends with a folder. A folder is a list of 10-byte entries. Each entry
    refers to a value in the heap, or to another heap.
    """
    values: dict[int, bytes] = {}
    heaps = [(heap, size_bytes)]
    for _ in range(_MAX_PARTS):
        if not heaps:
            break
        start, end = heaps.pop()
        folder = start + number("<I", read_at(end - 4, 4))
        for index in range(min(number("<H", read_at(folder, 2)), _MAX_PARTS)):
            entry = read_at(folder + 2 + 10 * index, 10)
            if len(entry) < 10:
                break
            tag, length, offset = struct.unpack("<HII", entry)
            place = tag & 0xC000
            if place == 0 and tag & 0x3800 in (0x2800, 0x3000):
                # A heap that contains itself would be read forever. So another heap is read only if it is a part of
                # this heap, or smaller.
                if (start <= start + offset and start + offset + length < end) or length < end - start:
                    heaps.append((start + offset, start + offset + length))
            elif place == 0 and tag & 0x3FFF in (0x080A, 0x180E, 0x1810):
                values.setdefault(tag & 0x3FFF, read_at(start + offset, min(length, 1000)))
    make, _, model = values.get(0x080A, b"").partition(b"\0")
    turned = number("<i", values.get(0x1810, b"")[12:16]) % 360
    return ExifTags(
        taken_at=_unix_moment(str(number("<I", values.get(0x180E, b"")[:4]))),
        orientation={0: 1, 90: 6, 180: 3, 270: 8}.get(turned) if 0x1810 in values else None,
        make=plain_text(make.decode("latin-1")),
        model=plain_text(model.split(b"\0")[0].decode("latin-1")),
    )


def png_chunks(read_at: Reader, size_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk of a PNG file, and the offset and length of its contents."""
    at = 8
    for _ in range(_MAX_PARTS):
        head = read_at(at, 8)
        if len(head) < 8 or at > size_bytes:
            return
        length = number(">I", head[:4])
        yield head[4:], at + 8, length
        at += 12 + length


def _of_png(read_at: Reader, size_bytes: int) -> EmbeddedMetadata:
    tags, xmp = ExifTags(), None
    for kind, at, length in png_chunks(read_at, size_bytes):
        if kind in (b"eXIf", b"zTXt", b"tEXt", b"iTXt") and length <= MAX_XMP_BYTES:
            body = read_at(at, length)
            keyword, _, text = body.partition(b"\0")
            if kind == b"eXIf":
                tags = read_exif_block(body).completed_by(tags)
            elif keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                tags = tags.completed_by(
                    read_exif_block(_raw_profile(_inflated(text[1:]) if kind == b"zTXt" else text))
                )
            elif kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
                packet = text[2:].split(b"\0", 2)[-1]
                xmp = _inflated(packet) if text[:1] == b"\1" else packet
    return EmbeddedMetadata(tags, xmp)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_XMP_BYTES)
    except zlib.error:
        return b""


def _without_brotli(data: bytes) -> bytes:
    """Return the contents of a compressed JPEG XL box; empty if they are broken or `brotli` is not installed."""
    try:
        import brotli
    except ImportError:
        return b""
    try:
        return bytes(brotli.Decompressor().process(data, output_buffer_limit=MAX_XMP_BYTES))
    except brotli.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """Decode a block in ImageMagick's format: a name, the length, then the bytes as lines of hexadecimal digits."""
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return b""


def boxes(read_at: Reader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box in a range of an ISO base media file, and the start and end of its contents."""
    for _ in range(_MAX_PARTS):
        head = read_at(start, 16)
        if len(head) < 8 or start >= end:
            return
        length, kind, header = number(">I", head[:4]), head[4:8], 8
        if length == 1:
            length, header = number(">Q", head[8:16]), 16
        stop = end if length == 0 else min(start + length, end)
        if stop < start + header:
            return
        yield kind, start + header, stop
        start = stop


def _of_boxes(read_at: Reader, size_bytes: int) -> EmbeddedMetadata:
    tags, xmp = ExifTags(), None
    for kind, start, end in boxes(read_at, 0, size_bytes):
        if kind == b"moov":
            tags = tags.completed_by(_of_canon(read_at, start, end))
        elif kind in (b"Exif", b"xml ", b"brob"):
            content = read_at(start, min(end - start, MAX_XMP_BYTES))
            if kind == b"brob":
                kind, content = content[:4], _without_brotli(content[4:])
            if kind == b"Exif":
                # The TIFF structure comes after an offset and sometimes the mark `Exif`; the call skips both.
                tags = tags.completed_by(read_exif_block(content[:MAX_BLOCK_BYTES]))
            elif kind == b"xml ":
                xmp = xmp or content
        elif kind == b"uuid":
            name = read_at(start, 16)
            if name == _XMP_BOX:
                xmp = xmp or read_at(start + 16, min(end - start - 16, MAX_XMP_BYTES))
            elif name == _JPEG2000_EXIF_BOX:
                tags = tags.completed_by(read_tiff(_within(read_at, start + 16)))
    return EmbeddedMetadata(tags, xmp)


def _of_canon(read_at: Reader, start: int, end: int) -> ExifTags:
    folders: dict[bytes, ExifTags] = {}
    for kind, inner, stop in boxes(read_at, start, end):
        if kind == b"uuid" and read_at(inner, 16) == _CANON_BOX:
            for name, at, _ in boxes(read_at, inner + 16, stop):
                if name in (b"CMT1", b"CMT2"):
                    folders[name] = read_tiff(_within(read_at, at))
    # The box CMT2 has the EXIF tags. CMT1 has the camera, but only the date of the last change, so the values of CMT2
    # come first.
    return folders.get(b"CMT2", ExifTags()).completed_by(folders.get(b"CMT1", ExifTags()))
