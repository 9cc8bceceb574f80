"""Pillow decodes formats that the wheel of libvips cannot decode; without Pillow, they are not supported."""

import base64
import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from PIL import Image

from flows.imaging.errors import ImageTooLarge, UnreadableImage
from flows.imaging.limits import ImageLimits, ImageOptions
from flows.imaging.metadata import read_metadata
from flows.imaging.pixels import decode, pillow
from flows.imaging.pixels.open_image import OpenImage, without_decoder
from flows.imaging.thumbnail_and_preview import WrittenImage, inspect_image, make_derivatives
from tests.flows.imaging.conftest import QUARTERS
from tests.flows.imaging.test_containers import SEEN, box, jxl

#: The test picture, upright 64 x 96, as a phone stores it: 96 x 64 with a turn, which its EXIF block repeats.
HEIC = zlib.decompress(
    base64.b85decode(
        b"c-"
        b"muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpKAOYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{bpmLIc4+pcoJ^9fpfo0k"
        b"K79W?mYY2a**9a#F#{fNC<zk_{P<1Q|g}Tq`oc%J~X1OL7^YDj6PR78Df#=>wSs$@xIK0;t!Skr^a30jx;w1H+%cKYlPU@G~a>bx"
        b"1fc@-"
        b"Y7Y4^qGkQo#&Da=Vxu5`mK1PK=CbG7AhES*N}7)LfUxB*nu45;_4QI2@9I>e*cw4;F1uasXN*oSdIil$V@S0TkwCU~2#hiDVWRq("
        b"VKM0K_0=0tJ~BnIHjX4i2Dc44j!o`6WP`7$h<aa$&*E$iT?j$i&Rj3S>)V7Nw>^#rcv`ij%?N3-"
        b"mdoLvBhUC?bAoFs|o(@R(<Ip#1+sm;e9Ez5D;){Z;HUZMy$?9q#&@{bT)`qrKA}*$7@*DRr1>;##J#uVF8|974(`F_<`r{MEm+eY"
        b"f;gpT!?*RxMs>_rbS8W_PMo{Ao3b;tf46my@1P@#5IA;PU;<|Nje@bNpE4_kV}!@>z`~A#CqFOh0PzGn?`DAG~C>=DfY;=3kBmg)"
        b")KSw>LT4ZWO)yZL;Rxt+QCGXLJ6miT=Oj-"
        b"~JzxNp(IfJd3%ctp3#HZPMCy<DO+@?97k*XH0vxZH>kgvxLb#(mM~DC^P)3Jr!wYvclr+zqY!mPxO{Cb*MPVG(Vf2I`bLpv%;+bH"
        b"HUvbSKoQ|0nqnskYwTO%b*41aWF73@`KY87Z9s43V~t~7+P$Q01QbjF3C;IPAy^p0JR6zoB"
    )
)


def stored(picture: Any, kind: str) -> bytes:
    image, target = Image.fromarray(picture.numpy()), io.BytesIO()
    match kind:
        case "jp2":
            image.save(target, "JPEG2000")
        case "zstd":
            image.save(target, "TIFF", compression="zstd")
        case "avis":
            image.save(target, "AVIF", save_all=True, append_images=[image.rotate(180)], quality=95)
    return target.getvalue()


def quarters_of(path: Path) -> list[tuple[int, ...]]:
    with Image.open(path) as shown:
        width, height = shown.size
        places = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
        return [shown.convert("RGB").getpixel(place) for place in places]  # type: ignore[misc]


def make(kind: str, picture: Callable[..., Any], folder: Path) -> Path:
    name = {"heic": "a.heic", "jp2": "a.jp2", "zstd": "a.tif", "avis": "a.avif"}[kind]
    (folder / name).write_bytes(HEIC if kind == "heic" else stored(picture(64, 96), kind))
    return folder / name


KINDS = ["heic", "jp2", "zstd", "avis"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_shown_in_its_size_and_colors(kind: str, picture: Any, tmp_path: Path) -> None:
    path = make(kind, picture, tmp_path)
    made = make_derivatives(path, preview=tmp_path / "a.webp", thumbnail=tmp_path / "t.webp")
    assert (made.status, made.preview) == ("generated", WrittenImage(64, 96, ANY))
    for seen, color in zip(quarters_of(tmp_path / "a.webp"), QUARTERS, strict=True):
        assert seen == pytest.approx(color, abs=25)
    assert inspect_image(path).status == "generated"
    read = read_metadata(path)
    assert (read.width, read.height, read.orientation or 1) == (64, 96, 1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_whose_pixels_pillow_reads_is_turned_once(picture: Any, tmp_path: Path, orientation: int) -> None:
    turn = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    lying = Image.fromarray(picture(64, 96).numpy()).rotate(turn, expand=True)
    lying.save(tmp_path / "a.tif", compression="zstd", tiffinfo={274: orientation})

    made = make_derivatives(tmp_path / "a.tif", preview=tmp_path / "a.webp")

    assert (made.status, made.preview) == ("generated", WrittenImage(64, 96, ANY))
    with Image.open(tmp_path / "a.webp") as shown:
        assert shown.size == (64, 96)
    for seen, color in zip(quarters_of(tmp_path / "a.webp"), QUARTERS, strict=True):
        assert seen == pytest.approx(color, abs=25)
    read = read_metadata(tmp_path / "a.tif")
    assert (read.width, read.height, read.orientation) == (*lying.size, orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_whose_pixels_pillow_reads_is_turned_once(
    picture: Any, lying: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    def refuse(image: OpenImage, *_: object) -> None:
        raise without_decoder(image.name)

    # As a libvips without a decoder for AV1.
    monkeypatch.setattr(decode, "_decode_by_libvips", refuse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    # XMP does not count.
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="3"/>'
    lying_picture = Image.fromarray(lying(picture(64, 96), orientation).numpy())
    lying_picture.save(tmp_path / "a.avif", exif=exif, xmp=packet, quality=95)

    made = make_derivatives(tmp_path / "a.avif", preview=tmp_path / "a.webp")

    assert (made.status, made.preview) == ("generated", WrittenImage(64, 96, ANY))
    for seen, color in zip(quarters_of(tmp_path / "a.webp"), QUARTERS, strict=True):
        assert seen == pytest.approx(color, abs=25)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [("a.jp2", "I;16", {}), ("a.tif", "I;16", {"compression": "zstd"}), ("a.tif", "I;16B", {"compression": "zstd"})],
)
def test_greys_of_16_bits_are_shown_as_light_as_they_are(
    name: str, mode: str, options: dict[str, str], tmp_path: Path
) -> None:
    greys = [0, 0x4040, 0x8080, 0xFFFF]
    stripes = struct.pack(">64H" if mode == "I;16B" else "<64H", *(grey for grey in greys for _ in range(16))) * 64
    Image.frombytes(mode, (64, 64), stripes).save(tmp_path / name, **options)

    assert make_derivatives(tmp_path / name, preview=tmp_path / "a.webp").status == "generated"
    with Image.open(tmp_path / "a.webp") as shown:
        seen = [shown.convert("L").getpixel((x, 32)) for x in (8, 24, 40, 56)]
    assert seen == pytest.approx([0, 0x40, 0x80, 0xFF], abs=3)


def test_numbers_without_a_known_white_are_not_shown_in_wrong_colors(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("F", (64, 64), 0.5).save(path, compression="zstd")

    assert make_derivatives(path, preview=tmp_path / "a.webp").status == "not_supported"
    assert inspect_image(path).status == "not_supported"


@pytest.mark.parametrize("kind", KINDS)
def test_without_pillow_it_is_not_supported_and_a_plan_says_the_same(
    kind: str, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(kind, picture, tmp_path)
    monkeypatch.setattr(pillow, "load_pillow", lambda: None)
    made = make_derivatives(path, preview=tmp_path / "a.webp")
    assert (made.status, inspect_image(path).status) == ("not_supported", "not_supported")
    assert "photojobs[formats]" in (made.reason or "")
    assert not (tmp_path / "a.webp").exists()
    read = read_metadata(path)
    assert read.make == ("Testmaker" if kind == "heic" else None)
    if kind != "avis":
        assert (read.width, read.height) == (64, 96)


def test_the_limits_hold_before_anything_is_decoded(picture: Any, tmp_path: Path) -> None:
    path = make("jp2", picture, tmp_path)
    limits = ImageLimits(max_pixels=64 * 96 - 1)
    with pytest.raises(ImageTooLarge, match="64 x 96"):
        make_derivatives(path, preview=tmp_path / "a.webp", options=ImageOptions(limits=limits))
    with pytest.raises(ImageTooLarge, match="64 x 96"):
        inspect_image(path, limits=limits)


def test_a_file_that_is_cut_off_is_never_shown(detailed: Any, tmp_path: Path) -> None:
    data = stored(detailed(256, 256), "jp2")
    path = tmp_path / "a.jp2"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage, match="damaged"):
        make_derivatives(path, preview=tmp_path / "a.webp")
    assert not (tmp_path / "a.webp").exists()


@pytest.mark.parametrize("is_compressed", [False, True])
def test_jpeg_xl_keeps_its_metadata_without_a_decoder(tmp_path: Path, is_compressed: bool) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(jxl(is_compressed=is_compressed))
    made = make_derivatives(path, preview=tmp_path / "a.webp")
    assert (made.status, inspect_image(path).status) == ("not_supported", "not_supported")
    assert (read_metadata(path).make, read_metadata(path).taken_at) == (SEEN.make, SEEN.taken_at)
    # All optional packages are installed, so the message recommends none.
    assert made.reason == "a.jxl: no installed decoder supports it. Add a JPEG of the same name."


def test_a_compressed_box_that_is_broken_or_too_large_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = jxl(is_compressed=True), tmp_path / "a.jxl"
    at = whole.index(b"brobExif") + 8
    for content in (whole[:at] + b"\xff" * 8 + whole[at + 8 :], whole):
        path.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr("flows.imaging.headers.containers.MAX_XMP_BYTES", 20)
            assert read_metadata(path).make is None
    monkeypatch.setitem(sys.modules, "brotli", None)
    assert read_metadata(path).make is None


@pytest.mark.parametrize(
    ("codestream", "size"),
    [
        ("ff0a410600148806002801b1", (8, 8, 1)),
        ("ff0a13412408040100b4004b", (120, 80, 1)),
        ("ff0a80c20100148806006407", (121, 81, 1)),
        ("ff0a7a3e1c001488060c90f0", (3000, 2000, 1)),
        ("ff0afa3168700c0014880600", (900, 1600, 1)),
        ("ff0a311510505c1208020100", (300, 200, 3)),
        ("ff0a312d10505c1208020100", (300, 200, 6)),
        ("ff0a313510505c1208020100", (300, 200, 7)),
        ("ff0a31", (None, None, None)),
    ],
)
@pytest.mark.parametrize("form", ["codestream", "box", "parts"])
def test_jpeg_xl_says_its_size_and_turn_as_djxl_does(
    codestream: str, size: tuple[int | None, ...], form: str, tmp_path: Path
) -> None:
    data = bytes.fromhex(codestream)
    head = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl ", bytes(4), b"jxl ")
    match form:
        case "box":
            data = head + box(b"jxlc", data)
        case "parts":
            data = (
                head + box(b"jxlp", bytes(4), data[:3]) + box(b"jbrd", b"jpeg") + box(b"jxlp", b"\x80\0\0\1", data[3:])
            )
    (tmp_path / "a.jxl").write_bytes(data)
    read = read_metadata(tmp_path / "a.jxl")
    assert (read.width, read.height, read.orientation) == size


@pytest.mark.parametrize("is_codestream", [False, True])
def test_jpeg_2000_says_its_size_without_a_decoder(
    picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_codestream: bool
) -> None:
    data = stored(picture(64, 96), "jp2")
    (tmp_path / "a.jp2").write_bytes(data[data.index(b"\xff\x4f\xff\x51") :] if is_codestream else data)
    monkeypatch.setattr(pillow, "load_pillow", lambda: None)
    read = read_metadata(tmp_path / "a.jp2")
    assert (read.width, read.height) == (64, 96)


def test_a_jpeg_that_lacks_only_its_end_is_shown(jpeg: bytes, tmp_path: Path) -> None:
    assert jpeg.endswith(b"\xff\xd9")
    (tmp_path / "a.jpg").write_bytes(jpeg[:-2])
    made = make_derivatives(tmp_path / "a.jpg", preview=tmp_path / "a.webp")
    assert (made.status, made.preview) == ("generated", WrittenImage(120, 80, ANY))
    for seen, color in zip(quarters_of(tmp_path / "a.webp"), QUARTERS, strict=True):
        assert seen == pytest.approx(color, abs=25)


@pytest.mark.parametrize("missing_bytes", [40, 400])
def test_a_jpeg_that_lacks_more_is_not(detailed: Any, tmp_path: Path, missing_bytes: int) -> None:
    data = detailed(240, 160).jpegsave_buffer(keep="none")
    (tmp_path / "a.jpg").write_bytes(data[:-missing_bytes])
    with pytest.raises(UnreadableImage, match=r"^a.jpg: "):
        make_derivatives(tmp_path / "a.jpg", preview=tmp_path / "a.webp")
    assert not (tmp_path / "a.webp").exists()


def avif_with_items(picture: Any, count: int) -> bytes:
    """Return an AVIF picture with this many additional items of one byte, as a large picture has many tiles."""
    written = io.BytesIO()
    Image.fromarray(picture.numpy()).save(written, "AVIF", quality=95)
    data = bytearray(written.getvalue())
    meta, places, items = (data.index(kind) - 4 for kind in (b"meta", b"iloc", b"iinf"))
    names = b"".join(
        struct.pack(">I4sIHH4s8s", 28, b"infe", 2 << 24, 100 + at, 0, b"mime", b"\0text/a") for at in range(count)
    )
    shift = len(names) + 14 * count
    (contents_at,) = struct.unpack_from(">I", data, places + 22)
    struct.pack_into(">I", data, places + 22, contents_at + shift)
    contents = b"".join(struct.pack(">HHHII", 100 + at, 0, 1, contents_at + shift, 1) for at in range(count))
    for place, more in ((items, names), (places, contents)):
        (size,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">H", data, place + (12 if place == items else 14), 1 + count)
        struct.pack_into(">I", data, place, size + len(more))
        data[place + size : place + size] = more
    struct.pack_into(">I", data, meta, struct.unpack_from(">I", data, meta)[0] + shift)
    return bytes(data)


@pytest.mark.parametrize("items", [2, 300])
def test_a_picture_of_many_tiles_is_as_sound_as_any(picture: Callable[..., Any], tmp_path: Path, items: int) -> None:
    (tmp_path / "a.avif").write_bytes(avif_with_items(picture(64, 96), items))
    assert (read_metadata(tmp_path / "a.avif").width, read_metadata(tmp_path / "a.avif").height) == (64, 96)
    assert inspect_image(tmp_path / "a.avif", limits=ImageLimits()).status == "generated"
    made = make_derivatives(tmp_path / "a.avif", preview=tmp_path / "a.webp")
    assert made.status == "generated"
    for seen, expected in zip(quarters_of(tmp_path / "a.webp"), QUARTERS, strict=True):
        assert all(abs(a - b) <= 12 for a, b in zip(seen, expected, strict=True))
