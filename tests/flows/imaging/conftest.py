"""Fixtures that write picture files: pictures in every orientation, EXIF byte by byte, RAW files and HEIC files."""

import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.imaging.pixels import vips

BYTE, ASCII, SHORT, LONG, UNDEFINED, SIGNED_RATIONAL = 1, 2, 3, 4, 7, 10
_SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, UNDEFINED: 1, SIGNED_RATIONAL: 8}

#: The colors of the quarters of the test picture: top left, top right, bottom left, bottom right.
QUARTERS = ((230, 20, 20), (20, 200, 20), (20, 20, 230), (240, 240, 240))

Tags = Mapping[int, tuple[int, Any]]


def assert_upright(pyvips: Any, path: Path, *, within: int = 25) -> None:
    """Check that the colors of the test picture are in their quarters, with at most this difference."""
    image = pyvips.Image.new_from_file(str(path))
    places = [(x, y) for y in (1 / 4, 3 / 4) for x in (1 / 4, 3 / 4)]
    for (x, y), expected in zip(places, QUARTERS, strict=True):
        pixel = image(int(image.width * x), int(image.height * y))
        assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < within, (x, y, pixel)


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box of HEIF or MP4."""
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture(scope="session")
def pyvips() -> Any:
    return vips.load_vips()


@pytest.fixture(scope="session")
def picture(pyvips: Any) -> Callable[[int, int], Any]:
    """An upright picture whose quarters have different colors, so that a test sees each turn and flip."""

    def make(width: int = 120, height: int = 80) -> Any:
        top_left, top_right, bottom_left, bottom_right = (
            pyvips.Image.black(width // 2, height // 2, bands=3) + list(color) for color in QUARTERS
        )
        joined = top_left.join(top_right, "horizontal").join(bottom_left.join(bottom_right, "horizontal"), "vertical")
        return joined.cast("uchar").copy(interpretation="srgb")

    return make


@pytest.fixture(scope="session")
def detailed(pyvips: Any) -> Callable[[int, int], Any]:
    """A picture with detail at every scale and some noise, like a photograph."""

    def make(width: int, height: int) -> Any:
        layers = [
            pyvips.Image.perlin(width, height, cell_size=cell, seed=cell) * strength
            for cell, strength in ((256, 90), (64, 50), (16, 25), (4, 12))
        ]
        noise = pyvips.Image.gaussnoise(width, height, sigma=3, mean=0, seed=7)
        grey = layers[0] + layers[1] + layers[2] + layers[3] + noise + 120
        return grey.bandjoin([grey * 0.8 + 20, grey * 0.6 + 30]).cast("uchar").copy(interpretation="srgb")

    return make


@pytest.fixture(scope="session")
def lying() -> Callable[[Any, int], Any]:
    """Turn an upright picture as a camera with this EXIF orientation stores it; the EXIF standard names the turns."""

    def store(upright: Any, orientation: int) -> Any:
        turned: dict[int, Callable[[], Any]] = {
            1: lambda: upright.copy(),
            2: lambda: upright.fliphor(),
            3: lambda: upright.rot180(),
            4: lambda: upright.flipver(),
            5: lambda: upright.rot90().fliphor(),
            6: lambda: upright.rot270(),
            7: lambda: upright.rot270().fliphor(),
            8: lambda: upright.rot90(),
        }
        return turned[orientation]()

    return store


def exiftool_program() -> str:
    """The path of exiftool. Without exiftool, a test is skipped with the reason; in CI, it fails."""
    program = shutil.which("exiftool")
    if program is None:
        reason = "exiftool is not installed, and this test compares with it: apt install libimage-exiftool-perl"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="session")
def run_exiftool() -> Iterator[Callable[..., bytes]]:
    """Run exiftool with these arguments, and return its output. One process does all calls, as its start is slow."""
    with subprocess.Popen(
        [exiftool_program(), "-stay_open", "True", "-@", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: object) -> bytes:
            lines = [*map(str, arguments), "-echo3", "status ${status}", "-execute1"]
            process.stdin.write("\n".join([*lines, ""]).encode())
            process.stdin.flush()
            output = b"".join(iter(process.stdout.readline, b"{ready1}\n"))
            output, _, status = output.rpartition(b"status ")
            assert status == b"0\n", arguments
            return output

        yield run
        process.stdin.write(b"-stay_open\nFalse\n")


@pytest.fixture
def exiftool(run_exiftool: Callable[..., bytes]) -> Callable[[Path], dict[str, Any]]:
    """A function that returns the metadata that exiftool reads from a file, for comparison."""

    def read(path: Path) -> dict[str, Any]:
        [tags] = json.loads(run_exiftool("-json", "-n", path))
        return tags

    return read


@pytest.fixture
def write_tags(run_exiftool: Callable[..., bytes]) -> Callable[..., None]:
    """Write tags into a file as exiftool does: `write_tags(path, "-Make=Canon")`."""

    def write(path: Path, *tags: str) -> None:
        run_exiftool("-q", "-overwrite_original", *tags, path)

    return write


def tiff_structure(folder: Tags, exif: Tags | None = None, *, order: str = "<", base: int = 0) -> bytes:
    """Return the bytes of a TIFF structure with one IFD and its EXIF IFD; offsets count from `base`."""
    folder = dict(folder)
    if exif is not None:
        folder[0x8769] = (LONG, 0)
    first = _folder(folder, 8 + base, order)
    if exif is not None:
        folder[0x8769] = (LONG, 8 + base + len(first))
        first = _folder(folder, 8 + base, order)
    second = b"" if exif is None else _folder(exif, 8 + base + len(first), order)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8 + base) + first + second


def _folder(tags: Tags, offset: int, order: str) -> bytes:
    entries, outside = b"", b""
    data_at = offset + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        data, count = _packed(kind, value, order)
        if len(data) > 4:
            entries += struct.pack(order + "HHII", tag, kind, count, data_at + len(outside))
            outside += data + b"\0" * (len(data) % 2)
        else:
            entries += struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0) + outside


def _packed(kind: int, value: Any, order: str) -> tuple[bytes, int]:
    if kind == ASCII:
        data = (value.encode() if isinstance(value, str) else value) + b"\0"
        return data, len(data)
    if isinstance(value, bytes):
        return value, len(value) // _SIZES[kind]
    values = value if isinstance(value, list | tuple) else [value]
    form = {BYTE: "B", SHORT: "H", LONG: "I", UNDEFINED: "B"}[kind]
    return b"".join(struct.pack(order + form, item) for item in values), len(values)


@pytest.fixture(scope="session")
def tiff() -> Callable[..., bytes]:
    """See `tiff_structure`."""
    return tiff_structure


@pytest.fixture(scope="session")
def jpeg(picture: Callable[[int, int], Any]) -> bytes:
    """A small JPEG without any metadata."""
    data: bytes = picture().jpegsave_buffer(Q=95, keep="none")
    return data


@pytest.fixture(scope="session")
def raw_file() -> Callable[..., bytes]:
    """A function that returns a RAW file: an empty sensor, and an embedded JPEG as its preview, if one is given.

    The file is a DNG, unless `camera` names the make and model of a camera whose RAW files are built like a TIFF.
    """

    def make(
        preview: bytes | None,
        *,
        width: int = 128,
        height: int = 96,
        orientation: int = 1,
        exif: Tags | None = None,
        preview_compression: int = 7,
        sensor_compression: int = 1,
        camera: tuple[str, str] | None = None,
        magic: bytes = b"II*\0",
    ) -> bytes:
        sensor = struct.pack("<H", 1000) * (width * height)
        make, model = camera or ("Testmaker", "Model X")
        common = {0x010F: (ASCII, make), 0x0110: (ASCII, model), 0x0112: (SHORT, orientation)}
        matrix = struct.pack("<18i", *(v for n in (1, 0, 0, 0, 1, 0, 0, 0, 1) for v in (n, 1)))
        if camera is None:
            common |= {
                0xC612: (BYTE, [1, 4, 0, 0]),
                0xC614: (ASCII, f"{make} {model}"),
                0xC621: (SIGNED_RATIONAL, matrix),
            }
        mosaic = {
            0x00FE: (LONG, 0),
            0x0100: (LONG, width),
            0x0101: (LONG, height),
            0x0102: (SHORT, 16),
            0x0103: (SHORT, sensor_compression),
            0x0106: (SHORT, 32803),
            0x0111: (LONG, 0),
            0x0115: (SHORT, 1),
            0x0116: (LONG, height),
            0x0117: (LONG, len(sensor)),
            0x828D: (SHORT, [2, 2]),
            0x828E: (BYTE, [0, 1, 1, 2]),
        }
        if preview is None:
            first, second = common | mosaic, {}
        else:
            first = common | {
                0x00FE: (LONG, 1),
                0x0100: (LONG, 120),
                0x0101: (LONG, 80),
                0x0102: (SHORT, [8, 8, 8]),
                0x0103: (SHORT, preview_compression),
                0x0106: (SHORT, 6),
                0x0111: (LONG, 0),
                0x0115: (SHORT, 3),
                0x0116: (LONG, 80),
                0x0117: (LONG, len(preview)),
                0x014A: (LONG, 0),
            }
            second = mosaic
        first[0x8769] = (LONG, 0)
        exif = exif or {}
        for _ in range(2):  # In the second pass, all sizes are known.
            at = 8
            sizes = len(_folder(first, at, "<"))
            exif_at = at + sizes
            second_at = exif_at + len(_folder(exif, exif_at, "<"))
            data_at = second_at + (len(_folder(second, second_at, "<")) if second else 0)
            first[0x8769] = (LONG, exif_at)
            if preview is None:
                first[0x0111] = (LONG, data_at)
            else:
                first[0x014A] = (LONG, second_at)
                first[0x0111] = (LONG, data_at)
                second[0x0111] = (LONG, data_at + len(preview))
        return (
            magic
            + struct.pack("<I", 8)
            + _folder(first, 8, "<")
            + _folder(exif, exif_at, "<")
            + (_folder(second, second_at, "<") if second else b"")
            + (preview or b"")
            + sensor
        )

    return make


@pytest.fixture(scope="session")
def heic_file() -> bytes:
    """A HEIC file with valid boxes, whose picture only an HEVC decoder could read."""

    def full(kind: bytes, version: int, *content: bytes) -> bytes:
        return box(kind, struct.pack(">I", version << 24), *content)

    configuration = bytes(
        [1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 30, 0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 0]
    )
    properties = box(
        b"iprp",
        box(b"ipco", box(b"hvcC", configuration), full(b"ispe", 0, struct.pack(">II", 64, 64))),
        full(b"ipma", 0, struct.pack(">IHBBB", 1, 1, 2, 0x81, 2)),
    )
    picture = struct.pack(">I", 8) + b"\x26\x01" + bytes(6)
    kinds = box(b"ftyp", b"heic", bytes(4), b"mif1heic")

    def meta(offset: int) -> bytes:
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 0, b"\x44\0", struct.pack(">HHHHII", 1, 1, 0, 1, offset, len(picture))),
            full(b"iinf", 0, struct.pack(">H", 1), full(b"infe", 2, struct.pack(">HH", 1, 0), b"hvc1\0")),
            properties,
        )

    offset = len(kinds) + len(meta(0)) + 8
    return kinds + meta(offset) + box(b"mdat", picture)
