"""Pictures with colors by code points (CICP) look as in a browser; HDR pictures keep their middle tones."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from flows.imaging.pixels.coded_colors import CodedColors, read_coded_colors
from flows.imaging.thumbnail_and_preview import inspect_image, make_derivatives
from tests.browser.site import open_chromium, require_chromium
from tests.flows.imaging.conftest import png_chunk
from tests.flows.imaging.test_pillow_formats import HEIC

SRGB, P3, BT2020 = 1, 12, 9
PQ, HLG = 16, 18
EDGE = 32
#: 20, 50, 203 and 1,000 cd/m² as values of PQ, from 0 to 1 (Recommendation ITU-R BT.2100; Report ITU-R BT.2408).
PQ_20, PQ_50, PQ_203, PQ_1000 = 0.3570, 0.4403, 0.5806, 0.7518


def avif(color: tuple[int, ...], primaries: int, transfer: int, *, icc_profile: bytes | None = None) -> bytes:
    target = io.BytesIO()
    picture = Image.new("RGB" if len(color) == 3 else "RGBA", (EDGE, EDGE), color)
    picture.save(target, "AVIF", quality=100, subsampling="4:4:4", icc_profile=icc_profile)
    return renamed(target.getvalue(), primaries, transfer)


def renamed(content: bytes, primaries: int, transfer: int) -> bytes:
    """Return the same picture with other code points, so that its values mean other colors."""
    at = content.index(b"colrnclx") + 8
    return content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :]


def png(color: int | tuple[int, ...], primaries: int, transfer: int, *, mode: str = "RGB", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.new(mode, (EDGE, EDGE), color).save(target, "PNG", **options)
    content = target.getvalue()
    return content[:33] + png_chunk(b"cICP", bytes([primaries, transfer, 0, 1])) + content[33:]


def shown(path: Path, content: bytes) -> tuple[int, ...]:
    path.write_bytes(content)
    made = make_derivatives(path, preview=path.with_suffix(".webp"))
    assert (made.status, inspect_image(path).status) == ("generated", "generated"), made.reason
    with Image.open(path.with_suffix(".webp")) as preview:
        assert preview.size == (EDGE, EDGE)
        return preview.getpixel((EDGE // 2, EDGE // 2))  # type: ignore[return-value]


@pytest.mark.browser
def test_sdr_colors_are_those_that_a_browser_shows(tmp_path: Path) -> None:
    require_chromium()
    colors = [(128, 128, 128), (200, 60, 40), (60, 180, 90), (40, 70, 200), (230, 230, 230), (100, 90, 80)]
    named = [(SRGB, 13), (P3, 13), (BT2020, 1), (BT2020, 14), (6, 6), (5, 6), (SRGB, 8), (SRGB, 4), (P3, 5)]
    files = [(avif(color, *pair), (*pair, *color)) for pair in named for color in colors]
    page = "".join(
        f'<img src="{number}.avif" style="position:absolute;left:{number % 9 * EDGE}px;top:{number // 9 * EDGE}px">'
        for number in range(len(files))
    )
    ours = [shown(tmp_path / f"{number}.avif", content) for number, (content, _) in enumerate(files)]
    (tmp_path / "page.html").write_text(f'<body style="margin:0">{page}')
    driver = open_chromium(arguments=["--force-color-profile=srgb"])
    try:
        driver.get((tmp_path / "page.html").as_uri())
        screen = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()
    for number, (_, case) in enumerate(files):
        middle = (number % 9 * EDGE + EDGE // 2, number // 9 * EDGE + EDGE // 2)
        assert ours[number][:3] == pytest.approx(screen.getpixel(middle), abs=5), case


@pytest.mark.parametrize("store", [avif, png])
def test_colors_of_p3_are_converted(tmp_path: Path, store: Callable[..., bytes]) -> None:
    red = shown(tmp_path / f"a.{store.__name__}", store((200, 60, 40), P3, 13))
    assert red == pytest.approx((218, 43, 23), abs=4)


@pytest.mark.parametrize("store", [avif, png])
def test_hdr_keeps_its_middle_tones_and_compresses_its_lights(tmp_path: Path, store: Callable[..., bytes]) -> None:
    def grey(share: float, transfer: int) -> int:
        value = round(share * 255)
        red, green, blue = shown(tmp_path / f"a.{store.__name__}", store((value, value, value), BT2020, transfer))[:3]
        assert max(red, green, blue) - min(red, green, blue) <= 2
        return green

    # sRGB values of 20/203 and 50/203 of white.
    assert (grey(PQ_20, PQ), grey(PQ_50, PQ)) == pytest.approx((88, 136), abs=4)
    assert grey(PQ_50, PQ) < 200 < grey(PQ_203, PQ) < grey(0.66, PQ) < grey(PQ_1000, PQ) == 255 == grey(1, PQ)
    # BT.2408: white paper is 75 % of HLG, or 58 % of PQ.
    assert grey(0.75, HLG) == pytest.approx(grey(PQ_203, PQ), abs=4)
    assert (grey(0, PQ), grey(0, HLG), grey(1, HLG)) == (0, 0, 255)


def test_sixteen_bits_grey_and_transparency(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    deep = shown(path, png(round(PQ_50 * 65_535), BT2020, PQ, mode="I;16"))
    assert deep == pytest.approx((136, 136, 136), abs=1)
    assert shown(path, png((200, 60, 40, 128), P3, 13, mode="RGBA")) == pytest.approx((218, 43, 23, 128), abs=3)
    assert shown(path, png((round(PQ_50 * 255), 128), BT2020, PQ, mode="LA"))[3] == pytest.approx(128, abs=2)


def test_a_profile_counts_before_nclx_and_after_cicp(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = avif((200, 60, 40), SRGB, 13)
    at = content.index(b"colrnclx")
    assert read_coded_colors(reader(content), size_bytes=len(content)) == CodedColors(SRGB, 13)
    assert at > 0
    both = avif((200, 60, 40), P3, 13, icc_profile=profile)
    assert shown(tmp_path / "a.avif", both) == pytest.approx((200, 60, 40), abs=4)
    both = png((200, 60, 40), P3, 13, icc_profile=profile)
    assert shown(tmp_path / "a.png", both) == pytest.approx((218, 43, 23), abs=4)


def test_heic_is_converted_as_well(tmp_path: Path) -> None:
    def reds(content: bytes) -> list[int]:
        (tmp_path / "a.heic").write_bytes(content)
        assert make_derivatives(tmp_path / "a.heic", preview=tmp_path / "a.webp").status == "generated"
        with Image.open(tmp_path / "a.webp") as preview:
            width, height = preview.size
            places = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
            return [max(preview.getpixel(place)) for place in places]  # type: ignore[type-var, misc]

    plain, linear = reds(HEIC), reds(renamed(HEIC, SRGB, 8))
    assert all(after > before or before > 250 for before, after in zip(plain, linear, strict=True))


@pytest.mark.parametrize("pair", [(SRGB, 3), (SRGB, 9), (SRGB, 17), (8, 13), (250, 13)])
def test_colors_that_are_not_known_are_not_supported(tmp_path: Path, pair: tuple[int, int]) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(avif((200, 60, 40), *pair))
    made = make_derivatives(path, preview=tmp_path / "a.webp")
    assert (made.status, inspect_image(path).status) == ("not_supported", "not_supported")
    assert str(pair[0]) in (made.reason or "")
    assert not (tmp_path / "a.webp").exists()


def reader(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size_bytes: content[offset : offset + size_bytes]


@pytest.mark.parametrize("kind", ["avif", "png"])
def test_broken_files_name_no_colors_and_raise_nothing(kind: str) -> None:
    whole = avif((200, 60, 40), P3, 13) if kind == "avif" else png((200, 60, 40), P3, 13)
    named = read_coded_colors(reader(whole), size_bytes=len(whole))
    found = {read_coded_colors(reader(whole[:length]), size_bytes=length) for length in range(len(whole))}
    assert named is not None
    assert found == {None, named}
