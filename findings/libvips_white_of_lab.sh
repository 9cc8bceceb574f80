#!/usr/bin/env bash
# libvips shows a 16-bit CIELAB TIFF with the white of sRGB, so that saturated colors shift by more than ten levels.
#
# Guess: Lab values are absolute colors, so that a Lab TIFF and the sRGB picture that it was made of look the same.
# Behaviour: `thumbnail` and `colourspace("srgb")` take Lab for relative to D65, while TIFF and ICC profiles mean D50.
#     Greys are right, a green comes out 13 levels too red. `icc_export` takes the same numbers for D50, and is right.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), tifffile 2026.3.3, Pillow 13.0.0 (littleCMS) to compare.
# Date: 2026-11-28.
# Source: TIFF 6.0, section 23, and Photoshop's TIFF technical notes; libvips, `libvips/colour/Lab2XYZ.c` (D65 default).
# Covered by: flows/imaging/pixels/decode.py; tests/flows/imaging/test_colors_of_images.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 tifffile==2026.3.3 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy
import pyvips
import tifffile
from PIL import Image, ImageCms

green = (60, 170, 70)
lab = ImageCms.profileToProfile(
    Image.new("RGB", (64, 64), green), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
)
lightness, a, b = lab.getpixel((0, 0))
values = numpy.array([lightness * 257, (a - 128) * 256 % 65536, (b - 128) * 256 % 65536], numpy.uint16)
tifffile.imwrite("lab.tif", numpy.broadcast_to(values, (64, 64, 3)).copy(), photometric="cielab")
image = pyvips.Image.new_from_file("lab.tif")
by_thumbnail = pyvips.Image.thumbnail("lab.tif", 16)(8, 8)
by_profile = image.colourspace("lab").icc_export(output_profile="srgb")(8, 8)
print("made of:", green, "by thumbnail:", by_thumbnail, "by icc_export:", by_profile)
assert by_thumbnail[0] - green[0] > 8
assert all(abs(seen - wanted) <= 5 for seen, wanted in zip(by_profile, green))
PYTHON
