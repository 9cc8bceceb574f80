#!/usr/bin/env bash
# libvips shows TIFFs as grey or RGB whose numbers are neither: the mosaic of a sensor, linear light, YCbCr.
#
# Guess: a loader refuses a color space that it does not convert, as libvips does with LogLuv that is not compressed.
# Behaviour: whatever the tag PhotometricInterpretation names, samples are taken for grey (one) or RGB (three), without
#     a warning. A sensor's mosaic becomes a black picture, linear light a dark one, and YCbCr 4:4:4 one in other
#     colors, although YCbCr with shared colors (4:2:0) is converted.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18).
# Date: 2026-11-28.
# Source: TIFF 6.0, sections 8 and 21; DNG 1.7, "PhotometricInterpretation"; libvips, `libvips/foreign/tiff2vips.c`.
# Covered by: flows/imaging/headers/tiff_pixels.py; tests/flows/imaging/test_colors_of_images.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct

import pyvips

EDGE = 16


def tiff(photometric, bits, pixel, subsampling=None):
    """A TIFF of one strip, all of one color."""
    bands, pixels = len(pixel), struct.pack(f"<{len(pixel)}{'B' if bits == 8 else 'H'}", *pixel) * EDGE**2
    tags = [(0x100, 3, EDGE), (0x101, 3, EDGE), (0x103, 3, 1), (0x106, 3, photometric), (0x115, 3, bands)]
    tags += [(0x116, 3, EDGE), (0x117, 4, len(pixels))]
    if subsampling:
        tags.append((0x212, 3, subsampling | subsampling << 16))
    count = len(tags) + 2
    end = 8 + 2 + 12 * count + 4
    entries = [struct.pack("<HHII", tag, kind, 2 if tag == 0x212 else 1, value) for tag, kind, value in tags]
    wide = struct.pack("<HHI", 0x102, 3, bands) + (struct.pack("<I", end) if bands > 2 else struct.pack("<I", bits))
    entries += [wide, struct.pack("<HHII", 0x111, 4, 1, end + 8)]
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    head = b"II*\0" + struct.pack("<IH", 8, count) + b"".join(entries) + bytes(4)
    return head + struct.pack("<4H", bits, bits, bits, 0) + pixels


def seen(content):
    picture = pyvips.Image.thumbnail_buffer(content, EDGE)
    return picture.interpretation, [int(value) for value in picture(0, 0)]


# Red is 76, 85, 255 in YCbCr.
results = {
    "YCbCr 4:4:4": seen(tiff(6, 8, (76, 85, 255), subsampling=1)),
    "sensor": seen(tiff(32803, 16, (1000,))),
    "linear light": seen(tiff(34892, 16, (13107, 13107, 13107))),
}
for name, result in results.items():
    print(name, *result)
assert results["YCbCr 4:4:4"] == ("srgb", [76, 85, 255]), "YCbCr is converted"
assert max(results["sensor"][1]) < 10, "a sensor's mosaic is not shown black"
# A fifth of white in linear light is 124 of 255 in sRGB.
assert max(results["linear light"][1]) < 60, "linear light is converted"
PYTHON
