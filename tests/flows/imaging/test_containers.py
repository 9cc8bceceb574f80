"""Date and camera of files that do not begin as TIFF or JPEG are read as exiftool reads them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.imaging.headers.containers import EmbeddedMetadata, read_embedded
from flows.imaging.headers.exif import ExifTags
from flows.imaging.headers.xmp import xmp_taken_at
from flows.imaging.metadata import read_metadata
from flows.imaging.source_file import open_source
from tests.flows.imaging.conftest import ASCII, LONG, SHORT, box, png_chunk, tiff_structure

LONG8 = 16
CAMERA = {0x010F: (ASCII, "Testmaker"), 0x0110: (ASCII, "Model X"), 0x0112: (SHORT, 6)}
EXIF = {0x9003: (ASCII, "2024:05:17 18:30:59"), 0x9291: (ASCII, "07"), 0x9011: (ASCII, "+02:00")}
SEEN = ExifTags("2024-05-17T18:30:59.070+02:00", 6, "Testmaker", "Model X")
PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"""


def embedded(data: bytes) -> EmbeddedMetadata:
    return read_embedded(lambda offset, size: data[offset : offset + size], size_bytes=len(data))


def jpeg_with(structure: bytes) -> bytes:
    body = b"Exif\0\0" + structure
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + b"\xff\xda\0\2"


def cr3() -> bytes:
    folders = box(b"CMT1", tiff_structure(CAMERA)) + box(b"CMT2", tiff_structure(EXIF))
    canon = box(b"uuid", bytes.fromhex("85c0b687820f11e08111f4ce462b6a48"), folders)
    return box(b"ftyp", b"crx ", bytes(4), b"crx isom") + box(b"moov", canon)


def raf() -> bytes:
    jpeg = jpeg_with(tiff_structure(CAMERA, EXIF))
    return b"FUJIFILMCCD-RAW 0201FF383501".ljust(84, b"\0") + struct.pack(">II", 160, len(jpeg)) + bytes(68) + jpeg


def mrw() -> bytes:
    body = b"".join(
        name + struct.pack(">I", len(data)) + data
        for name, data in ((b"\0PRD", bytes(24)), (b"\0TTW", tiff_structure(CAMERA, EXIF, order=">")))
    )
    return b"\0MRM" + struct.pack(">I", len(body)) + body


def x3f() -> bytes:
    image = b"SECi" + struct.pack("<6I", 0x20000, 2, 18, 8, 8, 8) + jpeg_with(tiff_structure(CAMERA, EXIF))
    directory = b"SECd" + struct.pack("<II", 0x20000, 1) + struct.pack("<II4s", 64, len(image), b"IMA2")
    return b"FOVb".ljust(64, b"\0") + image + directory + struct.pack("<I", 64 + len(image))


def jxl(*, is_compressed: bool = False) -> bytes:
    head = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl ", bytes(4), b"jxl ")
    exif = bytes(4) + tiff_structure(CAMERA, EXIF)
    # As libjxl writes the block of a JPEG that it compresses again.
    block = box(b"brob", b"Exif", brotli.compress(exif)) if is_compressed else box(b"Exif", exif)
    return head + block + box(b"jxlc", b"\xff\x0a")


def jp2() -> bytes:
    head = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 ", bytes(4), b"jp2 ")
    return head + box(b"uuid", b"JpgTiffExif->JP2", tiff_structure(CAMERA, EXIF))


@pytest.mark.parametrize(("suffix", "make"), [("cr3", cr3), ("raf", raf), ("mrw", mrw), ("x3f", x3f), ("jp2", jp2)])
def test_each_format_says_what_exiftool_reads(
    suffix: str, make: Callable[[], bytes], tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make())
    assert embedded(make()).tags == SEEN
    told = exiftool(path)
    assert (told["DateTimeOriginal"], told["Make"], told["Model"]) == ("2024:05:17 18:30:59", "Testmaker", "Model X")


def test_a_jpeg_with_filling_between_its_segments_says_its_date_and_camera() -> None:
    jpeg = jpeg_with(tiff_structure(CAMERA, EXIF))
    assert embedded(jpeg[:2] + b"\xff\xff" + jpeg[2:]).tags == SEEN


def test_jpeg_xl_says_its_date_and_camera() -> None:
    assert embedded(jxl()).tags == SEEN


def test_a_crw_says_its_date_and_camera() -> None:
    values = {0x080A: b"Canon\0EOS 300D\0", 0x180E: struct.pack("<Iii", 1068485966, 0, 0)}
    values[0x1810] = struct.pack("<IIfiIII", 8, 8, 1.0, 90, 8, 24, 0)
    inner = b"".join(values.values())
    offsets = [inner.index(value) for value in values.values()]
    entries = b"".join(
        struct.pack("<HII", tag, len(value), at) for (tag, value), at in zip(values.items(), offsets, strict=True)
    )
    heap = inner + struct.pack("<H", len(values)) + entries + struct.pack("<I", len(inner))
    outer = heap + struct.pack("<HHII", 1, 0x300A, len(heap), 0) + struct.pack("<I", len(heap))
    data = b"II" + struct.pack("<I", 26) + b"HEAPCCDR" + bytes(12) + outer
    assert embedded(data).tags == ExifTags("2003-11-10T17:39:26", 6, "Canon", "EOS 300D")


def test_older_sigma_cameras_keep_their_words_as_properties() -> None:
    words = ["CAMMANUF", "SIGMA", "CAMMODEL", "SD10", "TIME", "978309395"]
    text = "".join(word + "\0" for word in words)
    starts = [text.index(word) for word in words]
    pairs = b"".join(struct.pack("<II", *starts[at : at + 2]) for at in (0, 2, 4))
    section = b"SECp" + struct.pack("<5I", 0x20000, 3, 0, 0, len(text)) + pairs + text.encode("utf-16-le")
    directory = b"SECd" + struct.pack("<II", 0x20000, 1) + struct.pack("<II4s", 64, len(section), b"PROP")
    data = b"FOVb".ljust(64, b"\0") + section + directory + struct.pack("<I", 64 + len(section))
    assert embedded(data).tags == ExifTags("2001-01-01T00:36:35", None, "SIGMA", "SD10")


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"eXIf"])
def test_a_png_says_its_date_in_any_of_its_ways(kind: bytes, picture: Any, tmp_path: Path) -> None:
    structure = tiff_structure(CAMERA, EXIF)
    profile = b"\nexif\n%8d\n%s\n" % (len(structure), structure.hex().encode())
    name = b"Raw profile type exif\0"
    body = {b"tEXt": name + profile, b"zTXt": name + b"\0" + zlib.compress(profile), b"eXIf": structure}[kind]
    png = picture().pngsave_buffer(keep="none")
    (tmp_path / "a.png").write_bytes(png[:33] + png_chunk(kind, body) + png[33:])
    read = read_metadata(tmp_path / "a.png")
    assert (read.taken_at, read.make) == (SEEN.taken_at, "Testmaker")
    assert (read.width, read.height) == (120, 80)


def big_folder(at: int, tags: dict[int, tuple[int, bytes]]) -> bytes:
    entries, outside = b"", b""
    data_at = at + 8 + 20 * len(tags) + 8
    for tag, (kind, data) in tags.items():
        count = len(data) if kind == ASCII else 1
        place = data.ljust(8, b"\0") if len(data) <= 8 else struct.pack("<Q", data_at + len(outside))
        outside += data if len(data) > 8 else b""
        entries += struct.pack("<HHQ", tag, kind, count) + place
    return struct.pack("<Q", len(tags)) + entries + bytes(8) + outside


def test_a_big_tiff_says_its_date_and_camera(tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]) -> None:
    camera = {0x010F: (ASCII, b"Testmaker\0"), 0x0112: (SHORT, b"\6\0"), 0x8769: (LONG8, bytes(8))}
    exif_at = 16 + len(big_folder(16, camera))
    camera[0x8769] = (LONG8, struct.pack("<Q", exif_at))
    exif = {0x9003: (ASCII, b"2024:05:17 18:30:59\0")}
    data = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16) + big_folder(16, camera) + big_folder(exif_at, exif)
    (tmp_path / "a.btf").write_bytes(data)
    told = exiftool(tmp_path / "a.btf")
    assert (told["DateTimeOriginal"], told["Make"], told["Orientation"]) == ("2024:05:17 18:30:59", "Testmaker", 6)
    assert embedded(data).tags == ExifTags("2024-05-17T18:30:59", 6, "Testmaker", None)


def test_the_exif_folder_may_be_of_the_type_for_folders_and_texts_of_that_of_exif_3() -> None:
    folder, utf8 = 13, 129
    plain = tiff_structure({0x010F: (ASCII, "Testmäker")}, EXIF)
    changed = plain.replace(struct.pack("<HH", 0x8769, LONG), struct.pack("<HH", 0x8769, folder))
    changed = changed.replace(struct.pack("<HH", 0x010F, ASCII), struct.pack("<HH", 0x010F, utf8))
    assert changed != plain
    assert embedded(changed).tags == ExifTags(SEEN.taken_at, None, "Testmäker", None)


@pytest.mark.parametrize(
    ("attributes", "elements", "taken_at"),
    [
        ('xmp:CreateDate="2020-01-02T03:04:05"', "", "2020-01-02T03:04:05"),
        (
            'xmp:CreateDate="2020-01-02T03:04:05"',
            "<photoshop:DateCreated>2019-05-06T07:08:09.5+01:00</photoshop:DateCreated>",
            "2019-05-06T07:08:09.500+01:00",
        ),
        (
            'photoshop:DateCreated="2019-05-06" exif:DateTimeOriginal="2018-05-06T10:20"',
            "",
            "2018-05-06T10:20:00",
        ),
        ('photoshop:DateCreated="2019-05-06"', "", "2019-05-06T00:00:00"),
        ('photoshop:DateCreated="2019"', "", None),
        ('xmp:ModifyDate="2019-05-06T07:08:09"', "", None),
    ],
)
def test_the_first_date_of_a_packet_counts(attributes: str, elements: str, taken_at: str | None) -> None:
    assert xmp_taken_at(PACKET.format(attributes=attributes, elements=elements).encode()) == taken_at


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_packet_with_a_document_type_says_nothing(encoding: str) -> None:
    packet = '<?xml version="1.0"?><!DOCTYPE x>' + PACKET.format(
        attributes='xmp:CreateDate="2020-01-02T03:04:05"', elements=""
    )
    assert xmp_taken_at(packet.encode(encoding)) is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_xmp_counts_if_exif_has_no_date(suffix: str, pyvips: Any, picture: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    image = picture().copy()
    packet = PACKET.format(attributes='exif:DateTimeOriginal="2020-01-02T03:04:05"', elements="")
    image.set_type(pyvips.GValue.blob_type, "xmp-data", packet.encode())
    image.write_to_file(str(path))
    assert read_metadata(path).taken_at == "2020-01-02T03:04:05"


@pytest.mark.parametrize("name", ["IMG_1.xmp", "IMG_1.jpg.xmp", "IMG_1.XMP"])
def test_the_sidecar_counts_last(jpeg: bytes, tmp_path: Path, name: str) -> None:
    (tmp_path / "IMG_1.jpg").write_bytes(jpeg)
    packet = PACKET.format(attributes='exif:DateTimeOriginal="2020-01-02T03:04:05"', elements="")
    (tmp_path / name).write_text(packet)
    assert read_metadata(tmp_path / "IMG_1.jpg").taken_at == "2020-01-02T03:04:05"


STARTS = (
    cr3(),
    raf(),
    mrw(),
    x3f(),
    jxl(),
    jxl(is_compressed=True),
    jp2(),
    b"II\x1a\0\0\0HEAPCCDR",
    b"\x89PNG\r\n\x1a\n",
)


@given(start=st.sampled_from(STARTS), data=st.data())
def test_no_bytes_make_the_reader_raise(start: bytes, data: st.DataObject) -> None:
    broken = bytearray(start + data.draw(st.binary(max_size=40)))
    for position in data.draw(st.lists(st.integers(8, len(broken) - 1), max_size=8)):
        broken[position] = data.draw(st.integers(0, 255))
    found = embedded(bytes(broken[: data.draw(st.integers(4, len(broken)))]))
    assert isinstance(found.tags, ExifTags)
    assert found.xmp is None or xmp_taken_at(found.xmp) is None


@pytest.mark.parametrize("length", [8, 12, 20])
def test_a_box_that_ends_before_its_own_name_costs_only_itself(tmp_path: Path, length: int) -> None:
    xmp_box = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    broken = struct.pack(">L", length) + b"uuid" + xmp_box + 40 * b"\0"
    path = tmp_path / "a.jp2"
    path.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + broken)
    with open_source(path) as file:
        assert read_embedded(file.read_at, size_bytes=file.size_bytes).tags == ExifTags()
