"""Colors that libvips would misread are right, or the picture is not supported; no picture is wrong or empty."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from flows.imaging.limits import ImageOptions, Rendition
from flows.imaging.metadata import read_metadata
from flows.imaging.thumbnail_and_preview import inspect_image, make_derivatives
from tests.flows.imaging.conftest import ASCII, LONG, QUARTERS, SHORT, UNDEFINED, tiff_structure

np = pytest.importorskip("numpy")

WIDTH, HEIGHT = 96, 64
GREYS = (30, 90, 160, 220)


def quarters(colors: Any) -> Any:
    """Return an array of height, width and channels, with one color in each quarter."""
    picture = np.zeros((HEIGHT, WIDTH, len(colors[0])), np.float64)
    for number, color in enumerate(colors):
        top, left = (number // 2) * HEIGHT // 2, (number % 2) * WIDTH // 2
        picture[top : top + HEIGHT // 2, left : left + WIDTH // 2] = color
    return picture


def tiff_file(
    array: Any, *, photometric: int, sample_format: int = 1, extra: tuple[int, ...] = (), order: str = "<", **tags: Any
) -> bytes:
    """Return a TIFF with one strip, written tag by tag according to the standard."""
    height, width, bands = array.shape
    pixels = array.astype(array.dtype.newbyteorder(order)).tobytes()
    folder = {
        0x0100: (LONG, width),
        0x0101: (LONG, height),
        0x0102: (SHORT, [array.dtype.itemsize * 8] * bands),
        0x0103: (SHORT, 1),
        0x0106: (SHORT, photometric),
        0x0111: (LONG, 0),
        0x0115: (SHORT, bands),
        0x0116: (LONG, height),
        0x0117: (LONG, len(pixels)),
        0x011C: (SHORT, 1),
        0x0153: (SHORT, [sample_format] * bands),
    }
    if extra:
        folder[0x0152] = (SHORT, list(extra))
    folder |= {int(name.removeprefix("tag_"), 16): value for name, value in tags.items()}
    folder[0x0111] = (LONG, len(tiff_structure(folder, order=order)))
    return tiff_structure(folder, order=order) + pixels


def shown(path: Path) -> list[tuple[int, ...]]:
    """Return the colors of the quarters of the preview, with their opacity."""
    made = make_derivatives(path, preview=path.with_suffix(".webp"))
    assert made.status == "generated"
    with Image.open(path.with_suffix(".webp")) as preview:
        assert preview.size == (WIDTH, HEIGHT)
        picture = preview.convert("RGBA")
        return [
            picture.getpixel((x * WIDTH // 4, y * HEIGHT // 4))  # type: ignore[misc]
            for y in (1, 3)
            for x in (1, 3)
        ]


def assert_shows(path: Path, colors: Any, *, opacity: int = 255) -> None:
    for seen, expected in zip(shown(path), colors, strict=True):
        wanted = tuple(expected) if len(expected) == 3 else tuple(expected) * 3
        assert seen[:3] == pytest.approx(wanted, abs=8)
        assert seen[3] == pytest.approx(opacity, abs=2)


RGB = quarters(QUARTERS)
GREY = quarters([(grey,) for grey in GREYS])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("picture", "colors", "photometric"), [(RGB, QUARTERS, 2), (GREY, [(g,) for g in GREYS], 1)])
@pytest.mark.parametrize(
    ("kind", "full", "sample_format"),
    [("u1", 255, 1), ("u2", 65_535, 1), ("u4", 2**32 - 1, 1), ("f2", 1, 3), ("f4", 1, 3)],
)
def test_numbers_of_every_size_show_their_colors(
    tmp_path: Path,
    picture: Any,
    colors: Any,
    photometric: int,
    kind: str,
    full: int,
    sample_format: int,
    order: str,
) -> None:
    array = (picture / 255 * full).astype(kind)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(array, photometric=photometric, sample_format=sample_format, order=order))
    assert_shows(path, colors)


def assert_not_supported(path: Path) -> str:
    """Check that a picture is not supported, also in a plan, and that its size is known; return the reason."""
    made = make_derivatives(path, preview=path.with_suffix(".webp"))
    assert (made.status, inspect_image(path).status) == ("not_supported", "not_supported")
    assert not path.with_suffix(".webp").exists()
    assert (read_metadata(path).width, read_metadata(path).height) == (WIDTH, HEIGHT)
    return made.reason or ""


@pytest.mark.parametrize(("kind", "sample_format"), [("i1", 2), ("i2", 2), ("i4", 2), ("f4", 3)])
def test_numbers_without_a_known_white_are_not_supported(tmp_path: Path, kind: str, sample_format: int) -> None:
    array = (GREY / 2).astype(kind)
    (tmp_path / "a.tif").write_bytes(tiff_file(array, photometric=1, sample_format=sample_format))
    reason = assert_not_supported(tmp_path / "a.tif")
    assert reason.startswith(
        "a.tif: the values of the pixels are not from 0" if kind == "f4" else "a.tif: photojobs cannot determine"
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_float_that_is_not_a_number_has_no_color(tmp_path: Path, share: float) -> None:
    array = (GREY / 255).astype("f4")
    array[: max(1, int(share * HEIGHT))] = np.nan
    (tmp_path / "a.tif").write_bytes(tiff_file(array, photometric=1, sample_format=3))
    assert "not from 0 to 1" in assert_not_supported(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_a_tiff_with_an_orientation_that_does_not_exist_is_shown_as_it_is(
    tmp_path: Path, orientation: int, order: str
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(RGB.astype("u1"), photometric=2, order=order, tag_112=(SHORT, orientation)))
    assert_shows(path, QUARTERS)
    assert read_metadata(path).orientation == 1


@pytest.mark.parametrize(
    ("photometric", "tags"),
    [
        (4, {}),
        (6, {"tag_212": (SHORT, [1, 1])}),
        (10, {}),
        (32803, {}),
        (34892, {}),
        (5, {"tag_14C": (SHORT, 2)}),
    ],
    ids=["transparency mask", "YCbCr", "ITU Lab", "sensor", "linear light", "inks other than CMYK"],
)
def test_colors_that_would_be_taken_for_others_are_not_supported(
    tmp_path: Path, photometric: int, tags: dict[str, Any]
) -> None:
    bands = {4: 1, 32803: 1, 5: 4}.get(photometric, 3)
    array = np.repeat(GREY, bands, axis=2).astype("u1")
    (tmp_path / "a.tif").write_bytes(tiff_file(array, photometric=photometric, **tags))
    assert "photojobs cannot determine" in assert_not_supported(tmp_path / "a.tif")


def test_ycbcr_that_shares_colors_among_pixels_is_shown(tmp_path: Path) -> None:
    ycbcr = np.asarray(Image.fromarray(RGB.astype("u1")).convert("YCbCr"))
    # Four times brightness, then the colors that its 2 x 2 pixels share.
    blocks = ycbcr.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 4, 3)
    packed = np.concatenate([blocks[:, :, 0], blocks[:, 0, 1:]], axis=1).astype("u1")
    content = tiff_file(ycbcr, photometric=6, tag_212=(SHORT, [2, 2]))
    at = len(content) - ycbcr.size
    (tmp_path / "a.tif").write_bytes(content[:at] + packed.tobytes() + bytes(ycbcr.size - packed.size))
    assert_shows(tmp_path / "a.tif", QUARTERS)


def test_a_jpeg_of_12_bits_is_not_supported(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB.astype("u1"))
    picture.save(tmp_path / "a.jpg", quality=95)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    frame = content.index(b"\xff\xc0")
    assert content[frame + 4] == 8
    content[frame + 4] = 12
    (tmp_path / "a.jpg").write_bytes(content)
    assert "no installed decoder supports it" in assert_not_supported(tmp_path / "a.jpg")


def test_numbers_of_64_bits_are_not_supported(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_file(GREY / 255, photometric=1, sample_format=3))
    assert_not_supported(tmp_path / "a.tif")


def test_numbers_of_12_bits_are_not_supported(tmp_path: Path) -> None:
    array = (GREY * 257).astype("<u2")
    content = tiff_file(array, photometric=1).replace(
        struct.pack("<HHIH", 0x0102, SHORT, 1, 16), struct.pack("<HHIH", 0x0102, SHORT, 1, 12)
    )
    (tmp_path / "a.tif").write_bytes(content)
    assert_not_supported(tmp_path / "a.tif")


@pytest.mark.parametrize(("picture", "colors", "photometric"), [(RGB, QUARTERS, 2), (GREY, [(g,) for g in GREYS], 1)])
@pytest.mark.parametrize(("extra", "opacity"), [((0,), 255), ((2,), 128), ((1,), 128), ((0, 0), 255), ((2, 0), 128)])
def test_only_what_is_said_to_be_transparency_is(
    tmp_path: Path, picture: Any, colors: Any, photometric: int, extra: tuple[int, ...], opacity: int
) -> None:
    visible = picture * (128 / 255) if extra == (1,) else picture
    selections = [np.full((HEIGHT, WIDTH, 1), 128)] * len(extra)
    array = np.concatenate([visible, *selections], axis=2).astype("u1")
    (tmp_path / "a.tif").write_bytes(tiff_file(array, photometric=photometric, extra=extra))
    assert_shows(tmp_path / "a.tif", colors, opacity=opacity)


def lab_of(colors: Any) -> Any:
    """Return CIELAB values, computed by littleCMS: lightness 0 to 100, and two colors from -128 to 127."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    one = Image.new("RGB", (1, 1))
    values = []
    for color in colors:
        one.putpixel((0, 0), tuple(color))
        lightness, a, b = ImageCms.profileToProfile(one, *profiles, outputMode="LAB").getpixel((0, 0))  # type: ignore
        values.append((lightness * 100 / 255, a - 128, b - 128))
    return values


# Near grey, the signed numbers of neighbors change between 0 and 255.
MUTED = ((200, 60, 60), (60, 170, 70), (60, 70, 180), (128, 128, 128))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("form", ["lab8", "lab16", "icclab8", "icclab16"])
def test_lab_shows_its_colors(tmp_path: Path, form: str, with_alpha: bool, order: str) -> None:
    lightness, colors = np.split(quarters(lab_of(MUTED)), [1], axis=2)
    array = {
        "lab8": lambda: np.concatenate([lightness * 2.55, colors % 256], axis=2).round().astype("u1"),
        "lab16": lambda: np.concatenate([lightness * 655.35, colors * 256 % 65_536], axis=2).round().astype("u2"),
        "icclab8": lambda: np.concatenate([lightness * 2.55, colors + 128], axis=2).round().astype("u1"),
        "icclab16": lambda: np.concatenate([lightness * 652.8, (colors + 128) * 256], axis=2).round().astype("u2"),
    }[form]()
    if with_alpha:
        full = np.iinfo(array.dtype).max
        array = np.concatenate([array, np.full((HEIGHT, WIDTH, 1), full // 2, array.dtype)], axis=2)
    photometric = 9 if form.startswith("icc") else 8
    data = tiff_file(array, photometric=photometric, extra=(2,) if with_alpha else (), order=order)
    (tmp_path / "a.tif").write_bytes(data)
    assert_shows(tmp_path / "a.tif", MUTED, opacity=128 if with_alpha else 255)
    assert (tmp_path / "a.tif").read_bytes() == data


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_hidden_color_of_a_lab_tiff_is_not_seen_at_an_edge(tmp_path: Path, kind: str) -> None:
    seen, hidden = lab_of([(200, 60, 60), (60, 170, 70)])
    full, unit = np.iinfo(kind).max, 1 if kind == "u1" else 256
    array = np.zeros((42, 200, 4))
    for columns, (lightness, *colors), opacity in ((slice(100), hidden, 0), (slice(100, None), seen, full)):
        array[:, columns] = (lightness * full / 100, *(color * unit % (256 * unit) for color in colors), opacity)
    (tmp_path / "a.tif").write_bytes(tiff_file(array.round().astype(kind), photometric=8, extra=(2,)))

    # A pixel of the small picture is half of the one color and half of the other.
    options = ImageOptions(preview=Rendition(long_edge_pixels=21, quality=100, effort=4))
    make_derivatives(tmp_path / "a.tif", preview=tmp_path / "a.webp", options=options)

    with Image.open(tmp_path / "a.webp") as small:
        edge = small.convert("RGBA").getpixel((10, 2))
    assert isinstance(edge, tuple)
    assert edge[3] == pytest.approx(128, abs=8)
    assert edge[:3] == pytest.approx((200, 60, 60), abs=24)


def with_index(jpeg: bytes, index: bytes) -> bytes:
    """Return a JPEG whose EXIF has an interoperability IFD, as DCF cameras write it."""

    def structure(exif_at: int, folder_at: int) -> tuple[bytes, ...]:
        first = struct.pack("<HHHIII", 1, 0x8769, LONG, 1, exif_at, 0)
        exif = struct.pack("<HHHIIHHIII", 2, 0xA001, SHORT, 1, 0xFFFF, 0xA005, LONG, 1, folder_at, 0)
        folder = struct.pack("<HHHI4sHHI4sI", 2, 1, ASCII, 4, index, 2, UNDEFINED, 4, b"0100", 0)
        return first, exif, folder

    first, exif, _ = structure(0, 0)
    exif_at = 8 + len(first)
    body = b"Exif\0\0II*\0\x08\0\0\0" + b"".join(structure(exif_at, exif_at + len(exif)))
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(("index", "is_adobe_rgb"), [(b"R03\0", True), (b"R98\0", False)])
def test_a_camera_says_by_dcf_that_it_used_adobe_rgb(
    tmp_path: Path,
    picture: Callable[..., Any],
    index: bytes,
    is_adobe_rgb: bool,
    exiftool: Callable[[Path], dict[str, Any]],
) -> None:
    # (0, 255, 0) of sRGB is (144, 255, 60) of Adobe RGB; the values are Adobe's own.
    colors = [(144, 255, 60), (219, 0, 0), (128, 128, 128), (255, 255, 255)]
    image = Image.fromarray(quarters(colors).astype("u1"))
    image.save(tmp_path / "plain.jpg", quality=98, subsampling=0)
    (tmp_path / "a.jpg").write_bytes(with_index((tmp_path / "plain.jpg").read_bytes(), index))
    assert str(exiftool(tmp_path / "a.jpg")["InteropIndex"]).startswith(index[:3].decode())
    converted = [(0, 255, 0), (255, 0, 0), (128, 128, 128), (255, 255, 255)]
    assert_shows(tmp_path / "a.jpg", converted if is_adobe_rgb else colors)


def test_the_page_that_shows_the_picture_counts_not_the_small_copy_before_it(tmp_path: Path) -> None:
    small = Image.fromarray(RGB.astype("u1")).resize((WIDTH // 4, HEIGHT // 4)).convert("L")
    path = tmp_path / "a.tif"
    # Pillow writes the type of the page as a tag of its own.
    small.save(path, save_all=True, append_images=[Image.fromarray(RGB.astype("u1"))], tiffinfo={254: 1})
    data = bytearray(path.read_bytes())
    second = struct.pack("<HHII", 0x00FE, LONG, 1, 1)
    at = data.rfind(second)
    assert at > data.find(second)
    data[at + 8 : at + 12] = bytes(4)
    path.write_bytes(bytes(data))
    assert_shows(path, QUARTERS)
    assert (read_metadata(path).width, read_metadata(path).height) == (WIDTH, HEIGHT)
