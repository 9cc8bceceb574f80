import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from flows.imaging.errors import UnreadableImage
from flows.imaging.metadata import read_metadata
from flows.imaging.pixels import raw
from flows.imaging.thumbnail_and_preview import WrittenImage, inspect_image, make_derivatives
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, FileKind
from tests.flows.imaging.conftest import ASCII, assert_upright

#: Cameras whose RAW files are built like a TIFF, by the extension; those of other forms are in `test_containers.py`.
CAMERAS = {
    "3fr": ("Hasselblad", "Hasselblad H3D"),
    "arw": ("SONY", "ILCE-7M3"),
    "cr2": ("Canon", "Canon EOS 40D"),
    "dcr": ("Eastman Kodak Company", "DCS Pro 14nx"),
    "erf": ("EPSON", "R-D1"),
    "fff": ("Hasselblad", "Hasselblad X1D"),
    "gpr": ("GoPro", "HERO7 Black"),
    "iiq": ("Phase One", "P 65+"),
    "kdc": ("EASTMAN KODAK COMPANY", "Kodak EasyShare P880"),
    "mef": ("Mamiya-OP Co.,Ltd.", "MAMIYA ZD"),
    "mos": ("Leaf", "Leaf Aptus 22"),
    "nef": ("NIKON CORPORATION", "NIKON D90"),
    "nrw": ("NIKON", "COOLPIX P6000"),
    "orf": ("OLYMPUS IMAGING CORP.", "E-3"),
    "pef": ("PENTAX Corporation", "PENTAX K10D"),
    "rw2": ("Panasonic", "DMC-G1"),
    "rwl": ("LEICA", "D-LUX 4"),
    "sr2": ("SONY", "DSLR-A100"),
    "srf": ("SONY", "DSC-F828"),
    "srw": ("SAMSUNG", "NX10"),
}
#: The first bytes of their files, if these are not those of a TIFF.
MAGIC = {"orf": b"IIRO", "rw2": b"IIU\0", "rwl": b"IIU\0"}
JPEG_XL_OF_DNG = 52546
#: 120 x 80 pixels, as libjxl compresses them.
JPEG_XL = bytes.fromhex("ff0a13412408040100b4004b382d7dc0")


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Path]:
    return {"thumbnail": tmp_path / "t.webp", "preview": tmp_path / "p.webp"}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tagged", [False, True])
def test_the_embedded_preview_becomes_the_derivatives_upright(
    pyvips: Any,
    picture: Any,
    lying: Any,
    raw_file: Callable[..., bytes],
    tmp_path: Path,
    targets: dict[str, Path],
    orientation: int,
    tagged: bool,
) -> None:
    upright = picture(120, 80) if orientation <= 4 else picture(80, 120)
    stored = lying(upright, orientation)
    if tagged:
        stored.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    embedded = stored.jpegsave_buffer(Q=95, **({} if tagged else {"keep": "none"}))
    (tmp_path / "a.DNG").write_bytes(raw_file(embedded, orientation=orientation))
    made = make_derivatives(tmp_path / "a.DNG", **targets)
    assert made.status == "generated"
    assert read_metadata(tmp_path / "a.DNG").orientation == orientation
    for target in targets.values():
        assert_upright(pyvips, target, within=30)


def test_a_preview_that_the_camera_has_turned_is_not_turned_again(
    pyvips: Any, picture: Any, raw_file: Callable[..., bytes], tmp_path: Path, targets: dict[str, Path]
) -> None:
    (tmp_path / "a.dng").write_bytes(raw_file(picture(80, 120).jpegsave_buffer(keep="none"), orientation=6))
    make_derivatives(tmp_path / "a.dng", **targets)
    assert_upright(pyvips, targets["preview"], within=30)


def test_without_a_preview_or_without_rawpy_it_is_not_supported(
    jpeg: bytes,
    raw_file: Callable[..., bytes],
    tmp_path: Path,
    targets: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a.dng").write_bytes(raw_file(None))
    made = make_derivatives(tmp_path / "a.dng", **targets)
    assert (made.status, made.reason) == (
        "not_supported",
        "a.dng: LibRaw finds no readable embedded preview. Add a JPEG of the same name.",
    )
    (tmp_path / "b.dng").write_bytes(raw_file(jpeg))
    monkeypatch.setattr(raw, "load_rawpy", lambda: None)
    made = make_derivatives(tmp_path / "b.dng", **targets)
    assert (made.status, made.reason) == (
        "not_supported",
        "b.dng: RAW files need rawpy. Install photojobs[raw].",
    )
    assert not targets["preview"].exists()


@pytest.mark.parametrize("extension", CAMERAS)
@pytest.mark.parametrize("has_preview", [True, False])
def test_each_camera_is_accepted_and_shown_by_its_preview_or_not_supported(
    jpeg: bytes,
    raw_file: Callable[..., bytes],
    tmp_path: Path,
    targets: dict[str, Path],
    exiftool: Callable[[Path], dict[str, Any]],
    extension: str,
    has_preview: bool,
) -> None:
    path = tmp_path / f"a.{extension}"
    assert DEFAULT_EXTENSIONS.describe(path.name).kind is FileKind.RAW
    path.write_bytes(
        raw_file(
            jpeg if has_preview else None,
            camera=CAMERAS[extension],
            magic=MAGIC.get(extension, b"II*\0"),
            exif={0x9003: (ASCII, "2024:05:17 18:30:59")},
        )
    )
    made, planned = make_derivatives(path, **targets), inspect_image(path)
    assert made.status == planned.status == ("generated" if has_preview else "not_supported")
    assert targets["preview"].exists() == has_preview
    read, tags = read_metadata(path), exiftool(path)
    assert (read.make, read.model, read.taken_at) == (*CAMERAS[extension], "2024-05-17T18:30:59")
    assert (tags["Make"], tags["Model"], tags["DateTimeOriginal"]) == (*CAMERAS[extension], "2024:05:17 18:30:59")


@pytest.mark.parametrize("has_jpeg", [True, False])
def test_a_dng_with_jpeg_xl_is_shown_by_its_jpeg_or_not_supported_and_keeps_its_metadata(
    jpeg: bytes, raw_file: Callable[..., bytes], tmp_path: Path, targets: dict[str, Path], has_jpeg: bool
) -> None:
    path = tmp_path / "a.dng"
    preview = {"preview": jpeg} if has_jpeg else {"preview": JPEG_XL, "preview_compression": JPEG_XL_OF_DNG}
    path.write_bytes(
        raw_file(
            **preview, sensor_compression=JPEG_XL_OF_DNG, orientation=6, exif={0x9003: (ASCII, "2024:05:17 18:30:59")}
        )
    )
    status = "generated" if has_jpeg else "not_supported"
    assert (make_derivatives(path, **targets).status, inspect_image(path).status) == (status, status)
    assert targets["preview"].exists() == has_jpeg
    read = read_metadata(path)
    assert (read.taken_at, read.model, read.orientation) == ("2024-05-17T18:30:59", "Model X", 6)
    assert (read.width, read.height) == (128, 96)


def test_a_camera_that_libraw_does_not_know_is_not_supported_rather_than_broken(
    jpeg: bytes, raw_file: Callable[..., bytes], tmp_path: Path, targets: dict[str, Path]
) -> None:
    (tmp_path / "a.raw").write_bytes(raw_file(jpeg, camera=("Newmaker", "Model 9"), sensor_compression=34999))
    for made in (make_derivatives(tmp_path / "a.raw", **targets), inspect_image(tmp_path / "a.raw")):
        assert made.status == "not_supported"
        assert made.reason == (
            "a.raw: LibRaw does not know this camera or its compression. Add a JPEG of the same name."
        )
    assert read_metadata(tmp_path / "a.raw").model == "Model 9"


def test_a_jpeg_under_the_name_of_a_raw_file_is_a_jpeg(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    image = picture(120, 80).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "Testmaker")
    (tmp_path / "a.nef").write_bytes(image.jpegsave_buffer())
    made, read = make_derivatives(tmp_path / "a.nef", **targets), read_metadata(tmp_path / "a.nef")
    assert inspect_image(tmp_path / "a.nef").status == made.status == "generated"
    assert (read.make, read.width, read.height) == ("Testmaker", 120, 80)
    assert made.preview == WrittenImage(120, 80, ANY)


@pytest.mark.parametrize("content", [b"no raw file at all", b"II*\0\x08\0\0\0\0\0", struct.pack("<8I", *range(8)) * 50])
def test_what_is_no_raw_file_fails_with_a_reason(tmp_path: Path, targets: dict[str, Path], content: bytes) -> None:
    (tmp_path / "a.nef").write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"^a.nef: LibRaw cannot read it"):
        make_derivatives(tmp_path / "a.nef", **targets)


def test_a_raw_file_with_a_damaged_preview_fails(
    jpeg: bytes, raw_file: Callable[..., bytes], tmp_path: Path, targets: dict[str, Path]
) -> None:
    (tmp_path / "a.dng").write_bytes(raw_file(jpeg[: len(jpeg) // 2] + bytes(len(jpeg) - len(jpeg) // 2)))
    with pytest.raises(UnreadableImage, match=r"^a.dng: "):
        make_derivatives(tmp_path / "a.dng", **targets)
    assert not targets["preview"].exists()


@pytest.mark.parametrize("with_rawpy", [True, False])
def test_a_raw_file_tells_its_metadata_even_without_rawpy(
    jpeg: bytes,
    raw_file: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exiftool: Callable[[Path], dict[str, Any]],
    with_rawpy: bool,
) -> None:
    if not with_rawpy:
        monkeypatch.setattr(raw, "load_rawpy", lambda: None)
    path = tmp_path / "a.dng"
    path.write_bytes(
        raw_file(jpeg, orientation=8, exif={0x9003: (ASCII, "2024:05:17 18:30:59"), 0x9011: (ASCII, "+02:00")})
    )
    read = read_metadata(path)
    assert (read.taken_at, read.orientation) == ("2024-05-17T18:30:59+02:00", 8)
    assert (read.make, read.model) == ("Testmaker", "Model X")
    assert (read.width, read.height) == ((128, 96) if with_rawpy else (None, None))
    tags = exiftool(path)
    assert str(tags["DateTimeOriginal"]) == "2024:05:17 18:30:59"
    assert tags["Orientation"] == 8


def test_a_date_that_only_the_embedded_preview_knows_is_found(
    pyvips: Any, picture: Any, raw_file: Callable[..., bytes], tmp_path: Path
) -> None:
    image = picture(120, 80).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd2-DateTimeOriginal", "2024:05:17 18:30:59")
    (tmp_path / "a.dng").write_bytes(raw_file(image.jpegsave_buffer()))
    assert read_metadata(tmp_path / "a.dng").taken_at == "2024-05-17T18:30:59"


def test_a_raw_file_without_a_date_does_not_get_one(
    jpeg: bytes, raw_file: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dng").write_bytes(raw_file(jpeg))
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert read_metadata(tmp_path / "a.dng").taken_at is None
    monkeypatch.undo()
    time.tzset()


def test_a_raw_file_without_a_preview_still_tells_its_size(raw_file: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(raw_file(None))
    read = read_metadata(tmp_path / "a.dng")
    assert (read.taken_at, read.width, read.height) == (None, 128, 96)
