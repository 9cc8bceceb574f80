import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from flows.imaging import thumbnail_and_preview
from flows.imaging.errors import ImageMissing, ImageTimeout, ImageTooLarge, UnreadableImage
from flows.imaging.limits import MAX_WEBP_EDGE_PIXELS, PREVIEW, THUMBNAIL, ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import read_metadata
from flows.imaging.pixels import encode, pillow, vips
from flows.imaging.thumbnail_and_preview import WrittenImage, inspect_image, make_derivatives
from storage.library.errors import FolderMissing
from tests.flows.imaging.conftest import QUARTERS, assert_upright, png_chunk


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Path]:
    for folder in (".thumb", ".preview"):
        (tmp_path / folder).mkdir()
    return {"thumbnail": tmp_path / ".thumb" / "a.webp", "preview": tmp_path / ".preview" / "a.webp"}


def assert_nothing_written(targets: dict[str, Path]) -> None:
    for target in targets.values():
        assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("interlace", [True, False])
def test_what_must_be_decoded_as_a_whole_is_bounded_by_its_bytes(
    picture: Any, tmp_path: Path, targets: dict[str, Path], interlace: bool
) -> None:
    source = tmp_path / "a.png"
    picture(400, 400).colourspace("rgb16").pngsave(str(source), interlace=interlace)
    whole_bytes = 400 * 400 * 3 * 2
    enough, too_little = (ImageLimits(max_memory_bytes=4 * limit) for limit in (whole_bytes, whole_bytes - 1))
    assert make_derivatives(source, **targets, options=ImageOptions(limits=enough)).status == "generated"
    if interlace:
        for look in (
            partial(make_derivatives, **targets, options=ImageOptions(limits=too_little)),
            partial(inspect_image, limits=too_little),
        ):
            with pytest.raises(ImageTooLarge, match=r"as a whole.* take 1 MB.* Raise this setting"):
                look(source)
    else:
        assert make_derivatives(source, **targets, options=ImageOptions(limits=too_little)).status == "generated"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_derivatives_are_upright_whichever_way_the_camera_was_held(
    pyvips: Any, picture: Any, lying: Any, tmp_path: Path, targets: dict[str, Path], orientation: int, exiftool: Any
) -> None:
    stored = lying(picture(1200, 800), orientation)
    stored.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    stored.jpegsave(str(tmp_path / "a.jpg"), Q=95)
    made = make_derivatives(tmp_path / "a.jpg", **targets)
    assert made.thumbnail == WrittenImage(800, 533, ANY)
    assert made.preview == WrittenImage(1200, 800, ANY)
    for target in targets.values():
        assert_upright(pyvips, target)
        written = exiftool(target)
        assert "Orientation" not in written
        assert "ProfileDescription" not in written


@pytest.mark.parametrize(
    ("size", "thumbnail", "preview"),
    [
        ((6000, 4000), (800, 533), (5000, 3333)),
        ((2000, 6000), (267, 800), (1667, 5000)),
        ((801, 100), (800, 100), (801, 100)),
        ((400, 300), (400, 300), (400, 300)),
        ((20_000, 10), (800, 1), (5000, 3)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_the_long_edge_is_bounded_and_nothing_is_enlarged(
    pyvips: Any, tmp_path: Path, targets: dict[str, Path], size: Any, thumbnail: Any, preview: Any
) -> None:
    (pyvips.Image.black(*size, bands=3) + 90).cast("uchar").copy(interpretation="srgb").jpegsave(
        str(tmp_path / "a.jpg")
    )
    made = make_derivatives(tmp_path / "a.jpg", **targets)
    for path, written, expected in (
        (targets["thumbnail"], made.thumbnail, thumbnail),
        (targets["preview"], made.preview, preview),
    ):
        image = pyvips.Image.new_from_file(str(path))
        assert (image.width, image.height) == expected
        assert written == thumbnail_and_preview.WrittenImage(*expected, size_bytes=path.stat().st_size)


@pytest.mark.parametrize("which", ["thumbnail", "preview"])
def test_one_derivative_alone_is_like_the_one_made_with_the_other(
    pyvips: Any, detailed: Any, tmp_path: Path, targets: dict[str, Path], which: str
) -> None:
    detailed(1600, 1200).jpegsave(str(tmp_path / "a.jpg"), Q=92)
    make_derivatives(tmp_path / "a.jpg", **targets)
    together = pyvips.Image.new_from_file(str(targets[which])).copy_memory()
    targets[which].unlink()
    made = make_derivatives(tmp_path / "a.jpg", **{which: targets[which]})
    alone = pyvips.Image.new_from_file(str(targets[which]))
    assert (alone - together).abs().avg() < 2
    assert (made.thumbnail is None) == (which == "preview")


def test_making_them_again_gives_the_same_files(detailed: Any, tmp_path: Path, targets: dict[str, Path]) -> None:
    detailed(900, 600).jpegsave(str(tmp_path / "a.jpg"))
    make_derivatives(tmp_path / "a.jpg", **targets)
    first = [target.read_bytes() for target in targets.values()]
    make_derivatives(tmp_path / "a.jpg", **targets)
    assert [target.read_bytes() for target in targets.values()] == first


def test_a_wide_color_profile_is_converted_and_left_out(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    # Without its profile, a picture in Display P3 would look too pale.
    picture(400, 300).icc_transform("p3", input_profile="srgb").jpegsave(str(tmp_path / "a.jpg"), Q=98)
    stored = pyvips.Image.new_from_file(str(tmp_path / "a.jpg"))
    assert stored.get_typeof("icc-profile-data") != 0
    assert abs(stored(100, 75)[0] - QUARTERS[0][0]) > 8
    make_derivatives(tmp_path / "a.jpg", **targets)
    for target in targets.values():
        assert_upright(pyvips, target)
        assert abs(pyvips.Image.new_from_file(str(target))(100, 75)[0] - QUARTERS[0][0]) < 8
        assert pyvips.Image.new_from_file(str(target)).get_typeof("icc-profile-data") == 0


def test_a_broken_profile_does_not_cost_the_picture(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    image = picture(400, 300).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"no profile" * 50)
    image.jpegsave(str(tmp_path / "a.jpg"))
    make_derivatives(tmp_path / "a.jpg", **targets)
    assert_upright(pyvips, targets["preview"])


def save_cmyk(image: Any, path: str) -> None:
    image.icc_export(output_profile="cmyk").jpegsave(path + ".jpg", Q=98)


def save_16_bit(image: Any, path: str) -> None:
    image.colourspace("rgb16").pngsave(path + ".png")


def save_16_bit_tiff(image: Any, path: str) -> None:
    image.colourspace("rgb16").tiffsave(path + ".tif", compression="lzw")


def save_grey(image: Any, path: str) -> None:
    image.colourspace("b-w").jpegsave(path + ".jpg", Q=95)


def save_grey_16_bit(image: Any, path: str) -> None:
    image.colourspace("grey16").pngsave(path + ".png")


@pytest.mark.parametrize("save", [save_cmyk, save_16_bit, save_16_bit_tiff, save_grey, save_grey_16_bit])
def test_every_kind_of_pixels_becomes_8_bit_srgb(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path], save: Callable[[Any, str], None]
) -> None:
    save(picture(400, 300), str(tmp_path / "a"))
    [source] = tmp_path.glob("a.*")
    make_derivatives(source, **targets)
    image = pyvips.Image.new_from_file(str(targets["preview"]))
    assert (image.format, image.interpretation, image.bands) == ("uchar", "srgb", 3)
    expected = picture(400, 300).colourspace("b-w")(100, 75)[0]
    assert abs(image.colourspace("b-w")(100, 75)[0] - expected) < 12


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif"])
def test_other_formats_are_read_and_transparency_stays(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path], suffix: str
) -> None:
    picture(400, 300).bandjoin(120).write_to_file(str(tmp_path / f"a{suffix}"))
    made = make_derivatives(tmp_path / f"a{suffix}", **targets)
    assert made.status == "generated"
    for target in targets.values():
        image = pyvips.Image.new_from_file(str(target))
        assert image.bands == 4
        assert abs(image[3].avg() - 120) < 3


def test_the_contents_decide_and_not_the_extension(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    for suffix in ("jpg", "nef"):
        source = tmp_path / f"really-a-png.{suffix}"
        source.write_bytes(picture(400, 300).pngsave_buffer())
        make_derivatives(source, **targets)
        assert_upright(pyvips, targets["preview"])


def test_brackets_in_a_name_are_no_options_of_the_decoder(
    pyvips: Any, picture: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    source = tmp_path / "a.jpg[shrink=8]"
    source.write_bytes(picture(400, 300).jpegsave_buffer())
    target = targets["preview"].with_name("b.webp[Q=1]")
    made = make_derivatives(source, preview=target)
    assert made.preview == WrittenImage(400, 300, ANY)
    assert target.read_bytes().startswith(b"RIFF")


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", lambda jpeg: b"", "the file is empty"),
        ("text.jpg", lambda jpeg: b"this is a text\n" * 500, "not an image of an accepted format"),
        ("header.jpg", lambda jpeg: jpeg[: jpeg.index(b"\xff\xda") + 14], "cut off or damaged"),
        ("half.jpg", lambda jpeg: jpeg[: len(jpeg) // 2], "cut off or damaged"),
        ("last-line-missing.jpg", lambda jpeg: jpeg[:-40], "cut off or damaged"),
        ("marker.jpg", lambda jpeg: b"\xff\xd8\xff", "."),
        ("animation.gif", lambda jpeg: b"GIF89a\x01\0\x01\0\0\0\0;", "not an image of an accepted format"),
        ("drawing.jpg", lambda jpeg: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
        ("table.jpg", lambda jpeg: b"1,2,3\n4,5,6\n", "not an image of an accepted format"),
    ],
)
@pytest.mark.parametrize("wanted", [("thumbnail",), ("thumbnail", "preview")])
def test_what_is_no_whole_image_fails_with_one_short_reason_and_writes_nothing(
    detailed: Any,
    tmp_path: Path,
    targets: dict[str, Path],
    name: str,
    content: Callable[[bytes], bytes],
    reason: str,
    wanted: tuple[str, ...],
) -> None:
    source = tmp_path / name
    source.write_bytes(content(detailed(1600, 1000).jpegsave_buffer(Q=90)))
    with pytest.raises(UnreadableImage, match=reason) as caught:
        make_derivatives(source, **{which: targets[which] for which in wanted})
    message = str(caught.value)
    assert message.startswith(name + ": ")
    assert "\n" not in message
    assert len(message) < 200
    assert_nothing_written(targets)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif"])
def test_a_file_that_is_cut_off_fails_in_every_format(
    detailed: Any, tmp_path: Path, targets: dict[str, Path], suffix: str
) -> None:
    source = tmp_path / f"a{suffix}"
    detailed(600, 400).write_to_file(str(source))
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableImage):
        make_derivatives(source, **targets)
    assert_nothing_written(targets)


@pytest.mark.parametrize(("width", "height"), [(200_000, 200_000), (100_000, 1), (30_000, 30_000)])
def test_a_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, targets: dict[str, Path], monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(width, height))

    def explode(*arguments: object, **options: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(thumbnail_and_preview.decode, "decode", explode)
    with pytest.raises(ImageTooLarge, match=f"bomb.png: {width:,} x {height:,} pixels"):
        make_derivatives(tmp_path / "bomb.png", **targets)
    assert_nothing_written(targets)


def test_limits_can_be_set(jpeg: bytes, tmp_path: Path, targets: dict[str, Path]) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with pytest.raises(ImageTooLarge, match=r"limit of 0\.009 megapixels"):
        make_derivatives(tmp_path / "a.jpg", **targets, options=ImageOptions(limits=ImageLimits(max_pixels=9_000)))
    with pytest.raises(ImageTooLarge, match="edge longer than the limit of 119"):
        make_derivatives(tmp_path / "a.jpg", **targets, options=ImageOptions(limits=ImageLimits(max_edge_pixels=119)))
    make_derivatives(
        tmp_path / "a.jpg", **targets, options=ImageOptions(limits=ImageLimits(max_pixels=9_600, max_edge_pixels=120))
    )


def test_decoding_stops_at_its_time_limit(detailed: Any, tmp_path: Path, targets: dict[str, Path]) -> None:
    detailed(3000, 2000).jpegsave(str(tmp_path / "a.jpg"))
    with pytest.raises(ImageTimeout, match=r"longer than 0\.001 seconds"):
        make_derivatives(tmp_path / "a.jpg", **targets, options=ImageOptions(limits=ImageLimits(max_seconds=0.001)))
    assert_nothing_written(targets)


def test_only_regular_files_are_opened(tmp_path: Path, targets: dict[str, Path], jpeg: bytes) -> None:
    (tmp_path / "real.jpg").write_bytes(jpeg)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, problem in (("link.jpg", "a symlink"), ("pipe.jpg", "not a regular"), ("folder.jpg", "not a regular")):
        with pytest.raises(UnreadableImage, match=f"{name}: it is {problem}"):
            make_derivatives(tmp_path / name, **targets)
    with pytest.raises(ImageMissing):
        make_derivatives(tmp_path / "gone.jpg", **targets)


def test_heic_without_a_decoder_is_not_supported_rather_than_broken(
    heic_file: bytes, tmp_path: Path, targets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow, "load_pillow", lambda: None)
    (tmp_path / "a.heic").write_bytes(heic_file)
    made = make_derivatives(tmp_path / "a.heic", **targets)
    assert made.status == "not_supported"
    assert made.reason == "a.heic: no installed decoder supports it. Install photojobs[formats] for more decoders."
    assert_nothing_written(targets)


def test_a_missing_folder_or_a_full_disk_leaves_nothing_behind(
    jpeg: bytes, tmp_path: Path, targets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with pytest.raises(FolderMissing):
        make_derivatives(tmp_path / "a.jpg", preview=tmp_path / "nowhere" / "a.webp")

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for threads in (1, 2):
        vips.set_threads(threads)
        with pytest.raises(OSError, match="No space left"):
            make_derivatives(tmp_path / "a.jpg", **targets)
    assert_nothing_written(targets)


def test_asking_for_nothing_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither"):
        make_derivatives(tmp_path / "a.jpg")


@pytest.mark.parametrize("values", [(0, 50, 4), (16_384, 50, 4), (800, 0, 4), (800, 101, 4), (800, 50, 7)])
def test_impossible_renditions_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not valid"):
        Rendition(*values)


def likeness(pyvips: Any, one: Any, other: Any) -> float:
    """Return the structural similarity (SSIM) of the brightness, with the usual Gaussian window."""

    def blurred(image: Any) -> Any:
        return image.gaussblur(1.5, precision="float")

    one, other = (image.colourspace("b-w")[0].cast("float") for image in (one, other))
    mean_one, mean_other = blurred(one), blurred(other)
    spread = blurred(one * one) - mean_one**2 + blurred(other * other) - mean_other**2
    together = blurred(one * other) - mean_one * mean_other
    means = mean_one * mean_one + mean_other * mean_other
    index = ((2 * mean_one * mean_other + 6.5) * (2 * together + 58.5)) / ((means + 6.5) * (spread + 58.5))
    average: float = index.avg()
    return average


@pytest.mark.slow
def test_the_default_effort_costs_few_bytes_and_no_likeness(
    pyvips: Any, detailed: Any, tmp_path: Path, targets: dict[str, Path]
) -> None:
    image = detailed(2400, 1600)
    image.jpegsave(str(tmp_path / "a.jpg"), Q=95)
    likenesses, sizes = [], []
    for effort in (4, PREVIEW.effort):
        make_derivatives(
            tmp_path / "a.jpg",
            **targets,
            options=ImageOptions(preview=Rendition(PREVIEW.long_edge_pixels, PREVIEW.quality, effort)),
        )
        likenesses.append(likeness(pyvips, image, pyvips.Image.new_from_file(str(targets["preview"]))))
        sizes.append(targets["preview"].stat().st_size)
    assert sizes[1] <= 1.12 * sizes[0]
    assert abs(likenesses[1] - likenesses[0]) <= 0.005


def test_small_pictures_are_encoded_once_in_the_better_quality(
    picture: Any, tmp_path: Path, targets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.png"
    picture(120, 80).pngsave(str(source))
    qualities: list[int] = []
    encode_it = thumbnail_and_preview.encode

    def counted(image: Any, rendition: Rendition) -> bytes:
        qualities.append(rendition.quality)
        return encode_it(image, rendition)

    monkeypatch.setattr(thumbnail_and_preview, "encode", counted)
    for _ in range(2):
        made = make_derivatives(source, **targets)
        assert made.thumbnail == made.preview
        assert targets["thumbnail"].samefile(targets["preview"])
    assert qualities == [PREVIEW.quality] * 2

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    make_derivatives(source, **targets)
    assert not targets["thumbnail"].samefile(targets["preview"])
    assert targets["thumbnail"].read_bytes() == targets["preview"].read_bytes()
    assert [path.name for folder in (".thumb", ".preview") for path in (tmp_path / folder).iterdir()] == ["a.webp"] * 2


@pytest.mark.parametrize(("growth", "effort"), [(1.0, 1), (1.3, 2)])
def test_less_effort_is_taken_where_samples_grow_little_by_it(
    picture: Any, monkeypatch: pytest.MonkeyPatch, growth: float, effort: int
) -> None:
    tried: list[tuple[int, int]] = []

    def encoded(image: Any, quality: int, effort: int) -> bytes:
        tried.append((image.width, effort))
        return bytes(int(1000 * (growth if effort == 1 else 1)))

    monkeypatch.setattr(encode, "_encoded", encoded)
    encode.encode(picture(2400, 1800), PREVIEW)
    assert tried == [(5 * 128, 1), (5 * 128, 2), (2400, effort)]
    tried.clear()
    encode.encode(picture(240, 180), PREVIEW)
    encode.encode(picture(2400, 1800), Rendition(5000, 60, 4))
    assert tried == [(240, 2), (2400, 4)]


@pytest.mark.parametrize("size", [(20_000, 200), (60, 30_000), (20_000, 1)])
def test_a_panorama_longer_than_webp_can_hold_is_scaled(
    picture: Any, tmp_path: Path, targets: dict[str, Path], size: tuple[int, int]
) -> None:
    source = tmp_path / "a.png"
    picture(100, 100).resize(size[0] / 100, vscale=size[1] / 100).pngsave(str(source))
    options = ImageOptions(preview=Rendition(MAX_WEBP_EDGE_PIXELS, 60, 2))
    made = make_derivatives(source, **targets, options=options)
    assert made.preview is not None
    assert max(made.preview.width, made.preview.height) == MAX_WEBP_EDGE_PIXELS
    assert made.thumbnail is not None
    assert max(made.thumbnail.width, made.thumbnail.height) == THUMBNAIL.long_edge_pixels


@pytest.mark.parametrize("compression", [34887, 50002, 52546], ids=["LERC", "JPEG XL of libtiff", "JPEG XL of DNG"])
def test_a_tiff_of_a_compression_without_decoder_is_not_supported_and_keeps_its_metadata(
    picture: Any, tmp_path: Path, targets: dict[str, Path], compression: int
) -> None:
    source = tmp_path / "a.tif"
    picture(120, 80).tiffsave(str(source))
    stored, compressed = (struct.pack("<HHIHH", 259, 3, 1, number, 0) for number in (1, compression))
    content = source.read_bytes()
    assert content.count(stored) == 1
    source.write_bytes(content.replace(stored, compressed))
    for look in (partial(make_derivatives, **targets), inspect_image):
        assert look(source).status == "not_supported"
    assert read_metadata(source).width == 120
    assert not targets["thumbnail"].exists()
