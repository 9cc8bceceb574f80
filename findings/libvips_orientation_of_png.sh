#!/usr/bin/env bash
# Which way up a PNG is depends on the library: libvips ignores an EXIF orientation that Pillow follows and exiftool reports.
#
# Guess: a PNG has one EXIF block, and each decoder that applies EXIF orientation turns the picture by it. So a picture can
#     be shown by one library while another one writes its orientation into a database.
# Behaviour: a PNG may carry the block before the pixels, after them, or (as Exiv2, which digiKam, darktable and GIMP use, and
#     ImageMagick wrote it for years) as hexadecimal digits in a compressed text. libvips knows the first place alone, as
#     browsers do; its thumbnail of the others is not turned. Pillow's `exif_transpose` turns all three. A program that takes
#     the tags from one and the pixels from the other turns the picture twice or never.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0.
# Date: 2026-11-28.
# Source: https://github.com/libvips/libvips/issues/4834; https://github.com/w3c/png/issues/310, which says that a block after
#     the pixels must not be honored; PNG specification, third edition, "eXIf".
# Covered by: flows/imaging/metadata.py, `_of_image`; tests/flows/imaging/test_photo_metadata.py, "the row of a png says
#     what is shown".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 Pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import zlib

import pyvips
from PIL import Image, ImageOps


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: a quarter turn
digits = f"\nexif\n{len(exif):8d}\n{exif.hex()}\n".encode()
in_text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits))
buffer = io.BytesIO()
Image.new("RGB", (80, 40), "red").save(buffer, "PNG")
png = buffer.getvalue()
HEADER, END = 33, len(png) - 12
files = {
    "before the pixels": png[:HEADER] + chunk(b"eXIf", exif) + png[HEADER:],
    "after the pixels": png[:END] + chunk(b"eXIf", exif) + png[END:],
    "in a text": png[:HEADER] + in_text + png[HEADER:],
}
seen = {}
for place, content in files.items():
    shown = pyvips.Image.thumbnail_buffer(content, 80, height=80)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        tag = image.getexif().get(0x0112)
        turned = ImageOps.exif_transpose(image).size
    seen[place] = ((shown.width, shown.height), turned)
    print(f"EXIF {place}: libvips shows {shown.width} x {shown.height}; Pillow: orientation {tag}, {turned[0]} x {turned[1]}")
assert seen == {
    "before the pixels": ((40, 80), (40, 80)),
    "after the pixels": ((80, 40), (40, 80)),
    "in a text": ((80, 40), (40, 80)),
}
PYTHON
