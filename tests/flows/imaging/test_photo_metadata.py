import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.imaging.errors import ImageMissing, UnreadableImage
from flows.imaging.headers.exif import ExifTags, read_exif_block, read_tiff
from flows.imaging.headers.moments import first_believable, moment_text
from flows.imaging.metadata import PhotoMetadata, read_metadata
from flows.imaging.pixels.open_image import open_image
from flows.imaging.source_file import open_source
from flows.imaging.thumbnail_and_preview import WrittenImage, make_derivatives
from tests.flows.imaging.conftest import QUARTERS, exiftool_program, png_chunk

ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7


def with_exif(jpeg: bytes, structure: bytes) -> bytes:
    body = b"Exif\0\0" + structure
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def as_exiftool_says(tags: dict[str, Any], *names: str) -> str | None:
    """Return the composite date of exiftool in our format."""
    for name in names:
        if name in tags:
            text = str(tags[name])
            return text[:10].replace(":", "-") + "T" + text[11:]
    return None


def test_a_photo_tells_when_and_with_what_it_was_taken(
    pyvips: Any, picture: Any, tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
) -> None:
    path = tmp_path / "a.jpg"
    image = picture(120, 80).copy()
    for name, value in (
        ("exif-ifd0-Make", "Nikon Corporation"),
        ("exif-ifd0-Model", "Z 8"),
        ("exif-ifd0-DateTime", "2024:06:01 00:00:00"),
        ("exif-ifd2-DateTimeOriginal", "2024:05:17 18:30:59"),
        ("exif-ifd2-SubSecTimeOriginal", "07"),
        ("exif-ifd2-OffsetTimeOriginal", "+02:00"),
    ):
        image.set_type(pyvips.GValue.gstr_type, name, value)
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.jpegsave(str(path))
    read = read_metadata(path)
    assert read == PhotoMetadata(
        taken_at="2024-05-17T18:30:59.070+02:00",
        orientation=6,
        make="Nikon Corporation",
        model="Z 8",
        width=120,
        height=80,
        size_bytes=path.stat().st_size,
    )
    tags = exiftool(path)
    assert as_exiftool_says(tags, "SubSecDateTimeOriginal") == "2024-05-17T18:30:59.07+02:00"
    assert (tags["Orientation"], tags["Make"], tags["Model"]) == (read.orientation, read.make, read.model)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_every_format_tells_its_date_and_camera(
    picture: Any,
    tmp_path: Path,
    suffix: str,
    exiftool: Callable[[Path], dict[str, Any]],
    write_tags: Callable[..., None],
) -> None:
    path = tmp_path / f"a{suffix}"
    picture(120, 80).write_to_file(str(path))
    # exiftool writes the tags, so it decides where each format has them.
    write_tags(path, "-Make=Canon", "-Model=EOS R5", "-Orientation#=1", "-ExifIFD:DateTimeOriginal=2023:01:02 03:04:05")
    assert str(exiftool(path)["DateTimeOriginal"]) == "2023:01:02 03:04:05"
    read = read_metadata(path)
    assert (read.taken_at, read.make, read.model) == ("2023-01-02T03:04:05", "Canon", "EOS R5")
    assert (read.width, read.height, read.orientation) == (120, 80, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("original", "digitised", "changed", "taken_at"),
    [
        ("2020:01:01 01:01:01", "2021:01:01 01:01:01", "2022:01:01 01:01:01", "2020-01-01T01:01:01"),
        ("0000:00:00 00:00:00", "2021:01:01 01:01:01", "2022:01:01 01:01:01", "2021-01-01T01:01:01"),
        ("    :  :     :  :  ", "", "2022:01:01 01:01:01", "2022-01-01T01:01:01"),
        ("2020:13:01 01:01:01", "2021:02:30 01:01:01", "2022:01:01 25:01:01", None),
        (None, None, None, None),
    ],
)
def test_the_first_date_that_is_one_counts(
    jpeg: bytes,
    tmp_path: Path,
    tiff: Callable[..., bytes],
    order: str,
    original: str | None,
    digitised: str | None,
    changed: str | None,
    taken_at: str | None,
) -> None:
    exif = {tag: (ASCII, value) for tag, value in ((0x9003, original), (0x9004, digitised)) if value is not None}
    folder = {0x0112: (SHORT, 1)} | ({} if changed is None else {0x0132: (ASCII, changed)})
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg, tiff(folder, exif, order=order)))
    assert read_metadata(tmp_path / "a.jpg").taken_at == taken_at


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize(
    ("tags", "taken_at"),
    [
        # Each program that changes a file writes ModifyDate: any other date is better.
        ({"IFD0:ModifyDate": "2024:09:23 10:55:48", "XMP:CreateDate": "2014:09:18 14:29:04"}, "2014-09-18T14:29:04"),
        ({"IFD0:ModifyDate": "2024:09:23 10:55:48", "XMP-exif:DateTimeOriginal": "2014:09:18 14:29:04+02:00"},
         "2014-09-18T14:29:04+02:00"),
        ({"IFD0:ModifyDate": "2014:09:18 14:29:04"}, "2014-09-18T14:29:04"),
        ({"IPTC:DateCreated": "2006:10:29", "IPTC:TimeCreated": "06:27:51-05:00"}, "2006-10-29T06:27:51-05:00"),
        ({"IPTC:DateCreated": "2006:10:29"}, "2006-10-29T00:00:00"),
        # XMP repeats the day alone; a change on the day of IPTC tells its time.
        ({"IPTC:DateCreated": "2006:10:29", "IPTC:TimeCreated": "06:27:51-05:00", "XMP-photoshop:DateCreated":
          "2006:10:29"}, "2006-10-29T06:27:51-05:00"),
        ({"IPTC:DateCreated": "2004:02:20", "IFD0:ModifyDate": "2004:02:20 08:07:49"}, "2004-02-20T08:07:49"),
        ({"IPTC:DateCreated": "2004:02:20", "IFD0:ModifyDate": "2004:02:21 08:07:49"}, "2004-02-20T00:00:00"),
        ({"ExifIFD:CreateDate": "2003:01:01 01:01:01", "IPTC:DateCreated": "2004:02:20"}, "2003-01-01T01:01:01"),
        ({"ExifIFD:DateTimeOriginal": "1601:01:01 00:00:00", "IPTC:DateCreated": "2004:02:20"}, "2004-02-20T00:00:00"),
    ],
)  # fmt: skip
def test_the_moment_that_is_nearest_to_the_picture_counts(
    picture: Any,
    tmp_path: Path,
    write_tags: Callable[..., None],
    suffix: str,
    tags: dict[str, str],
    taken_at: str,
) -> None:
    path = tmp_path / f"a{suffix}"
    picture(12, 8).write_to_file(str(path))
    write_tags(path, *(f"-{name}={value}" for name, value in tags.items()))
    assert read_metadata(path).taken_at == taken_at


def test_a_name_too_long_for_a_sidecar_costs_nothing(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 251}.jpg"
    path.write_bytes(jpeg)
    assert read_metadata(path).width == 120


@pytest.mark.parametrize(
    ("date", "fraction", "offset", "expected"),
    [
        ("2024:05:17 18:30:59", "", "", "2024-05-17T18:30:59"),
        ("2024:05:17 18:30:59", "5", "", "2024-05-17T18:30:59.500"),
        ("2024:05:17 18:30:59", "123456", "-09:30", "2024-05-17T18:30:59.123-09:30"),
        ("2024:05:17 18:30:59\0", "  ", "   :  ", "2024-05-17T18:30:59"),
        ("2024:05:17 18:30:59", "٣", "+99:00", "2024-05-17T18:30:59"),
        ("2024:05:17 18:30:59", "", "+\u0660\u0662:\u0660\u0660", "2024-05-17T18:30:59+02:00"),
        ("2024-05-17T18:30:59.25Z", "", "", "2024-05-17T18:30:59.250+00:00"),
        ("2024:5:7 8:30:59", "", "", "2024-05-07T08:30:59"),
        ("2024/05/17 18:30:59+01:00", "", "+02:00", "2024-05-17T18:30:59+01:00"),
        ("2024:02:29 00:00:00", "", "Z", "2024-02-29T00:00:00+00:00"),
        ("2023:02:29 00:00:00", "", "", None),
        ("2024:05:17 18:30:60", "", "", "2024-05-17T18:30:59"),
        ("2024:05:17 24:10:00", "", "", "2024-05-17T00:10:00"),
        ("2024:05:17 18:30", "5", "Z", "2024-05-17T18:30:00.500+00:00"),
        ("2024:05:17   :  :  ", "", "", "2024-05-17T00:00:00"),
        ("2024:05:17 18:30:  ", "", "", "2024-05-17T18:30:00"),
        ("2024:05:17", "", "", "2024-05-17T00:00:00"),
        ("2024:05:17 25:00:00", "", "", None),
        ("2024:05:17 18:61:00", "", "", None),
        ("2024:05:17 18:30:61", "", "", "2024-05-17T18:30:00"),
        ("2024:05:17 about noon", "", "", None),
        ("2024:05", "", "", None),
        ("2024:05:   18:30:00", "", "", None),
        ("not a date", "", "", None),
        ("", "", "", None),
    ],
)
def test_dates_become_iso_text(date: str, fraction: str, offset: str, expected: str | None) -> None:
    assert moment_text(date, fraction=fraction, offset=offset) == expected


@pytest.mark.parametrize("unbelievable", ["1825-12-31T23:59:59", "2999-01-01T00:00:00"])
def test_a_date_before_photography_or_in_the_future_counts_only_if_there_is_no_better_one(unbelievable: str) -> None:
    assert first_believable([unbelievable, None, "2024-05-17T18:30:59"]) == "2024-05-17T18:30:59"
    assert first_believable([None, unbelievable]) == unbelievable
    assert first_believable([None]) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_agrees_with_exiftool(
    pyvips: Any, picture: Any, tmp_path: Path, orientation: int, exiftool: Callable[[Path], dict[str, Any]]
) -> None:
    image = picture().copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.jpegsave(str(tmp_path / "a.jpg"))
    assert read_metadata(tmp_path / "a.jpg").orientation == exiftool(tmp_path / "a.jpg")["Orientation"] == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_none(
    jpeg: bytes, tmp_path: Path, tiff: Callable[..., bytes], orientation: int
) -> None:
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg, tiff({0x0112: (SHORT, orientation)})))
    assert read_metadata(tmp_path / "a.jpg").orientation in {None, 1}


def test_texts_are_cleaned_of_what_cameras_pad_them_with(tiff: Callable[..., bytes]) -> None:
    structure = tiff({0x010F: (ASCII, b"  OLYMPUS\xa9 \n CORP \0junk"), 0x0110: (ASCII, b" \0")})
    assert read_exif_block(structure) == ExifTags(make="OLYMPUS© CORP")


def test_tags_of_the_wrong_type_are_ignored(tiff: Callable[..., bytes]) -> None:
    structure = tiff(
        {0x010F: (LONG, 77), 0x0110: (SHORT, [1, 2, 3]), 0x0112: (ASCII, "6"), 0x0132: (LONG, 1)},
        {0x9003: (SHORT, 2024), 0x9004: (UNDEFINED, b"2020:01:01 01:01:01")},
    )
    assert read_exif_block(structure) == ExifTags(taken_at="2020-01-01T01:01:01")


def test_a_folder_that_leads_to_itself_or_nowhere_ends(tiff: Callable[..., bytes]) -> None:
    assert read_exif_block(tiff({0x8769: (LONG, 8), 0x010F: (ASCII, "Make A")})) == ExifTags(make="Make A")
    assert read_exif_block(tiff({0x8769: (LONG, 4_000_000_000)})) == ExifTags()


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    for block in (data, b"II*\0\x08\0\0\0" + data, b"Exif\0\0MM\0*\0\0\0\x08" + data):
        assert isinstance(read_exif_block(block), ExifTags)
        assert isinstance(read_tiff(lambda offset, size, block=block: block[offset : offset + size]), ExifTags)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=3 * settings().max_examples)
@given(data=st.data())
def test_broken_exif_never_costs_the_photo(
    jpeg: bytes, tmp_path: Path, tiff: Callable[..., bytes], data: st.DataObject
) -> None:
    structure = bytearray(
        tiff({0x010F: (ASCII, "Make A"), 0x0112: (SHORT, 3)}, {0x9003: (ASCII, "2020:01:01 01:01:01")})
    )
    for position in data.draw(st.lists(st.integers(0, len(structure) - 1), max_size=8)):
        structure[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(structure)))
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg, bytes(structure[:cut])))
    read = read_metadata(tmp_path / "a.jpg")
    assert (read.width, read.height) == (120, 80)
    assert read.orientation in {None, *range(1, 9)}


def test_what_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_bytes(b"just a text")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.jpg", "empty.jpg"):
        with pytest.raises(UnreadableImage, match=name):
            read_metadata(tmp_path / name)
    with pytest.raises(ImageMissing):
        read_metadata(tmp_path / "gone.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("also_in_exif", [False, True])
def test_the_row_of_an_avif_says_what_is_shown(
    picture: Any, lying: Any, tmp_path: Path, write_tags: Callable[..., None], orientation: int, also_in_exif: bool
) -> None:
    # Pillow writes the turn as HEIF wants it; phones write it into the EXIF block as well.
    stored = Image.fromarray(lying(picture(), orientation).numpy())
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.avif", exif=exif, quality=95)
    if also_in_exif:
        write_tags(tmp_path / "a.avif", f"-Orientation#={orientation}")
    read = read_metadata(tmp_path / "a.avif")
    made = make_derivatives(tmp_path / "a.avif", preview=tmp_path / "a.webp")
    assert made.preview == WrittenImage(120, 80, ANY) == WrittenImage(*upright_size(read), ANY)
    with Image.open(tmp_path / "a.webp") as shown:
        assert shown.size == (120, 80)
        assert_same_quarters(shown)


def upright_size(read: PhotoMetadata) -> tuple[Any, Any]:
    size = (read.width, read.height)
    return size[::-1] if (read.orientation or 1) >= 5 else size


def raw_profile(structure: bytes) -> bytes:
    """Return the EXIF block as a text, which programs wrote into PNG files before PNG had a chunk for EXIF."""
    text = f"\nexif\n{len(structure):8d}\n{structure.hex()}\n".encode()
    return png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


@pytest.mark.parametrize(
    ("place", "is_turned"), [("before the pixels", True), ("after the pixels", False), ("in a text", False)]
)
def test_the_row_of_a_png_says_what_is_shown(
    picture: Any, tiff: Callable[..., bytes], tmp_path: Path, place: str, is_turned: bool
) -> None:
    exif = tiff({0x0112: (SHORT, 6), 0x010F: (ASCII, "Canon")}, {})
    png = picture().pngsave_buffer(keep="none")
    at = len(png) - 12 if place == "after the pixels" else 33
    chunk = raw_profile(exif) if place == "in a text" else png_chunk(b"eXIf", exif)
    (tmp_path / "a.png").write_bytes(png[:at] + chunk + png[at:])

    read = read_metadata(tmp_path / "a.png")
    made = make_derivatives(tmp_path / "a.png", preview=tmp_path / "a.webp")

    assert read.make == "Canon"
    assert (read.orientation or 1) == (6 if is_turned else 1)
    assert made.preview == WrittenImage(*upright_size(read), ANY)


def test_a_jpeg_of_a_telephone_with_a_gain_map_keeps_its_xmp_date(
    pyvips: Any, tmp_path: Path, write_tags: Callable[..., None]
) -> None:
    # libvips 8.18 has a loader for these files, which knows no XMP.
    if pyvips.type_find("VipsOperation", "uhdrsave_buffer") == 0:
        reason = "this libvips writes no UltraHDR; install libvips 8.18 or newer"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    light = (pyvips.Image.black(128, 96, bands=3) + 1.5).cast("float").copy(interpretation="scrgb")
    (tmp_path / "a.jpg").write_bytes(light.uhdrsave_buffer())
    write_tags(tmp_path / "a.jpg", "-XMP-photoshop:DateCreated=2023:05:06 07:08:09")

    with open_source(tmp_path / "a.jpg") as file:
        image = open_image(file)
    assert str(image.header.get("vips-loader")).startswith("jpegload")
    assert b"2023-05-06T07:08:09" in bytes(image.header.get("xmp-data"))
    assert read_metadata(tmp_path / "a.jpg").taken_at == "2023-05-06T07:08:09"


def assert_same_quarters(shown: Image.Image) -> None:
    """Check that the colors of the test picture are in their quarters."""
    width, height = shown.size
    places = [(width // 4, height // 4), (3 * width // 4, height // 4), (width // 4, 3 * height // 4)]
    for place, color in zip(places, QUARTERS, strict=False):
        assert shown.convert("RGB").getpixel(place) == pytest.approx(color, abs=25)


def test_heic_tells_its_size_even_without_a_decoder(heic_file: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic_file)
    read = read_metadata(tmp_path / "a.heic")
    assert (read.width, read.height) == (64, 64)


@pytest.mark.parametrize(("ci", "ending"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_exiftool_is_named_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch, ci: str, ending: Any) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ending, match="exiftool is not installed"):
        exiftool_program()
