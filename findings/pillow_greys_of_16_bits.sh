#!/usr/bin/env bash
# Pillow makes nearly all greys of 16 bits white, also when it converts them to another mode of 16 bits; it scales colors.
#
# Guess: `convert("L")` and `convert("RGB")` keep how light a picture is, in each mode; one of 16 bits loses its finest steps. Big-
#     and little-endian 16 bits differ in the order of bytes alone. It is so with a 16-bit PNG in color.
# Behaviour: a color picture is scaled to 8 bits when it is opened. A grey one keeps its 16 bits, in a mode I;16, and each
#     conversion cuts off values above 255: a grey of one half becomes white. From I;16B, the mode of big-endian TIFF files, even
#     `convert("I;16")` cuts them off. `convert("I")` keeps them, and `convert("I").convert("I;16")` is the way between the two.
#     libvips scales greys and colors alike.
# Versions: Pillow 13.0.0; pyvips 3.2.0 and pyvips-binary 8.18.7 to compare.
# Date: 2026-11-29.
# Source: src/libImaging/Convert.c, I16L_L and I16B_L; https://github.com/python-pillow/Pillow/issues/3011 and /issues/3159;
#     https://github.com/python-pillow/Pillow/pull/9931, which repaired conversions to I.
# Covered by: flows/imaging/pixels/pillow.py, `_in_plain_mode`; tests/flows/imaging/test_pillow_formats.py, "greys of 16 bits are
#     shown as light as they are".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q Pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
venv/bin/python - <<'PYTHON'
import struct
import zlib

import pyvips
from PIL import Image

HALF = 0x8080


def png(name, color_type, samples):
    """Write a PNG of 8 x 8 equal pixels with 16 bits for each sample."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + struct.pack(">H", HALF) * samples * 8) * 8
    header = struct.pack(">2I5B", 8, 8, 16, color_type, 0, 0, 0)
    with open(name, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


png("grey.png", 0, 1)
png("color.png", 2, 3)
with Image.open("grey.png") as grey, Image.open("color.png") as color:
    light = {"grey": grey.convert("L").getpixel((0, 0)), "color": color.convert("RGB").getpixel((0, 0))[0]}
    print(f"Pillow, a half of all light: grey ({grey.mode}) {light['grey']}, color ({color.mode}) {light['color']}")
by_libvips = [pyvips.Image.thumbnail(name, 8)(0, 0)[0] for name in ("grey.png", "color.png")]
print(f"libvips: grey {by_libvips[0]:.0f}, color {by_libvips[1]:.0f}")
assert light == {"grey": 255, "color": 128}
assert by_libvips == [128, 128]

big_endian = Image.new("I;16B", (1, 1), HALF)
direct = big_endian.convert("I;16").getpixel((0, 0))
by_way_of_i = big_endian.convert("I").convert("I;16").getpixel((0, 0))
print(f"from I;16B to I;16: {direct:#x}, by way of I: {by_way_of_i:#x}")
assert (direct, by_way_of_i) == (0xFF, HALF)
PYTHON
