#!/usr/bin/env bash
# libvips' `thumbnail` of a HEIF or AVIF file shows the thumbnail in the file, where that is large enough, and not the picture.
#
# Guess: `Image.thumbnail` and `thumbnail_source` are a load and `thumbnail_image` in one, and quicker because they decode at a
#     smaller scale. The result shows the same picture, whichever of them makes it and however large it is.
# Behaviour: for HEIF they decode the item that the file names as a thumbnail of the picture, if it is at least as large as what is
#     asked for. Cameras write it with black bars where its shape differs from the picture's (1616 x 1080 for 3:2, Sony), and a
#     program that edits the picture may leave it as it was. So a result of 800 pixels shows another picture than one of 1500, and
#     a damaged picture with a sound thumbnail raises no error. No option prevents it; `new_from_source` and `thumbnail_image` do.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0 to write the items.
# Date: 2026-11-29.
# Source: libvips, `libvips/resample/thumbnail.c`, which sets the loader's option "thumbnail"; ISO/IEC 23008-12, `thmb`;
#     https://github.com/strukturag/libheif/issues/1406 for the bars.
# Covered by: flows/imaging/pixels/decode.py, `_decode_by_libvips`; tests/flows/imaging/test_stored_thumbnails.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 Pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import pyvips
from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind, version, *parts):
    return box(kind, struct.pack(">I", version << 24), *parts)


properties, contents = b"", []
for size, color in (((1800, 1200), RED), ((900, 600), BLUE)):
    written = io.BytesIO()
    Image.new("RGB", size, color).save(written, "AVIF", quality=95)
    data = written.getvalue()
    at = data.index(b"av1C") - 4
    configuration = data[at : at + struct.unpack_from(">I", data, at)[0]]
    properties += full(b"ispe", 0, struct.pack(">II", *size)) + configuration + full(b"pixi", 0, b"\3\10\10\10")
    contents.append(data[data.index(b"mdat") + 4 :])


def head(start):
    """All but the pixels: the picture is item 1, its thumbnail is item 2."""
    places = b""
    for number, content in enumerate(contents, 1):
        places += struct.pack(">HHHII", number, 0, 1, start, len(content))
        start += len(content)
    names = b"".join(full(b"infe", 2, struct.pack(">HH4sB", number, 0, b"av01", 0)) for number in (1, 2))
    return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + full(
        b"meta",
        0,
        full(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13)),
        full(b"pitm", 0, struct.pack(">H", 1)),
        full(b"iloc", 0, b"\x44\0" + struct.pack(">H", 2) + places),
        full(b"iinf", 0, struct.pack(">H", 2) + names),
        full(b"iref", 0, box(b"thmb", struct.pack(">HHH", 2, 1, 1))),
        box(b"iprp", box(b"ipco", properties), full(b"ipma", 0, struct.pack(">I", 2) + b"\0\1\3\1\x82\3\0\2\3\4\x85\6")),
    )


with open("a.avif", "wb") as file:
    file.write(head(len(head(0)) + 8) + box(b"mdat", *contents))


def color(image):
    middle = image(image.width // 2, image.height // 2)
    return "red" if middle[0] > middle[2] else "blue"


seen = {}
for edge in (400, 800, 1500):
    source = pyvips.Source.new_from_file("a.avif")
    by_image = pyvips.Image.new_from_file("a.avif").thumbnail_image(edge)
    both = (pyvips.Image.thumbnail("a.avif", edge), pyvips.Image.thumbnail_source(source, edge), by_image)
    seen[edge] = [color(image) for image in both]
    print(f"{edge} pixels: thumbnail {seen[edge][0]}, thumbnail_source {seen[edge][1]}, thumbnail_image {seen[edge][2]}")
print("the picture:", color(pyvips.Image.new_from_file("a.avif")))
assert seen == {400: ["blue", "blue", "red"], 800: ["blue", "blue", "red"], 1500: ["red", "red", "red"]}
PYTHON
