"""A derivative shows the picture, and not a thumbnail or another page in the file, which may differ."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from flows.imaging.thumbnail_and_preview import inspect_image, make_derivatives
from tests.flows.imaging.test_containers import box

RED, BLUE = (200, 30, 30), (30, 30, 200)


def full_box(kind: bytes, version: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24) + b"".join(content))


def avif_with_thumbnail(picture: Image.Image, thumbnail: Image.Image) -> bytes:
    """An AVIF file with two items: the picture, and a thumbnail of it, as cameras write it into their HEIF files."""
    properties, contents, names = b"", [], b""
    for number, image in enumerate((picture, thumbnail), 1):
        written = io.BytesIO()
        image.save(written, "AVIF", quality=95)
        data = written.getvalue()
        configuration = data.index(b"av1C") - 4
        (size,) = struct.unpack_from(">I", data, configuration)
        properties += full_box(b"ispe", 0, struct.pack(">II", *image.size))
        properties += data[configuration : configuration + size] + full_box(b"pixi", 0, b"\3\10\10\10")
        contents.append(data[data.index(b"mdat") + 4 :])
        names += full_box(b"infe", 2, struct.pack(">HH4sB", number, 0, b"av01", 0))

    def head(contents_at: int) -> bytes:
        places = b""
        for number, content in enumerate(contents, 1):
            places += struct.pack(">HHHII", number, 0, 1, contents_at, len(content))
            contents_at += len(content)
        of_items = struct.pack(">I", 2) + bytes([0, 1, 3, 1, 0x82, 3, 0, 2, 3, 4, 0x85, 6])
        return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, b"\x44\0" + struct.pack(">H", 2) + places),
            full_box(b"iinf", 0, struct.pack(">H", 2) + names),
            full_box(b"iref", 0, box(b"thmb", struct.pack(">HHH", 2, 1, 1))),
            box(b"iprp", box(b"ipco", properties) + full_box(b"ipma", 0, of_items)),
        )

    return head(len(head(0)) + 8) + box(b"mdat", b"".join(contents))


@pytest.mark.parametrize("wanted", [["thumbnail"], ["preview"], ["thumbnail", "preview"]])
def test_a_derivative_is_not_made_of_the_thumbnail_in_the_file(tmp_path: Path, wanted: list[str]) -> None:
    source = tmp_path / "a.avif"
    source.write_bytes(avif_with_thumbnail(Image.new("RGB", (1800, 1200), RED), Image.new("RGB", (900, 600), BLUE)))
    assert inspect_image(source).status == "generated"
    targets = {name: tmp_path / f"{name}.webp" for name in wanted}
    assert make_derivatives(source, **targets).status == "generated"
    for name, path in targets.items():
        with Image.open(path) as made:
            assert made.width == (800 if name == "thumbnail" else 1800)
            assert made.getpixel((made.width // 2, made.height // 2)) == pytest.approx(RED, abs=6)


def test_a_derivative_is_not_made_of_a_smaller_page_of_a_tiff(tmp_path: Path) -> None:
    source, thumbnail, preview = (tmp_path / name for name in ("a.tif", "thumbnail.webp", "preview.webp"))
    pages = [Image.new("RGB", (1800, 1200), RED), Image.new("RGB", (900, 600), BLUE), Image.new("L", (450, 300))]
    pages[0].save(source, save_all=True, append_images=pages[1:])
    assert make_derivatives(source, thumbnail=thumbnail).status == "generated"
    assert make_derivatives(source, preview=preview).status == "generated"
    for path in (thumbnail, preview):
        with Image.open(path) as made:
            assert made.getpixel((10, 10)) == pytest.approx(RED, abs=6)
