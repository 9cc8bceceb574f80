#!/usr/bin/env bash
# Pillow turns the pixels of a TIFF upright by itself, of a JPEG or PNG not, and reports the same orientation for all of them.
#
# Guess: `Image.open` gives the stored pixels, and `getexif()` the orientation by which the program has to turn them, in each
#     format. So a program that reads the orientation, then the pixels, and turns them by the one gets an upright picture.
# Behaviour: a TIFF has its upright size as soon as it is open, and upright pixels when they are read; then the orientation is
#     gone. Between the two, `getexif()` says that the picture, whose size is upright, has to be turned. The program turns a
#     TIFF twice: at 6 the picture is on its side, at 3 upside down.
#     `ImageOps.exif_transpose` reads the pixels first, and is right. libvips returns stored pixels for all three.
# Versions: Pillow 13.0.0; pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18) to compare.
# Date: 2026-11-29.
# Source: PIL/TiffImagePlugin.py, TiffImageFile._setup (the size) and load_end (the pixels).
# Covered by: flows/imaging/pixels/pillow.py, `_TURNED_BY_PILLOW`; tests/flows/imaging/test_pillow_formats.py, "a TIFF whose
#     pixels Pillow reads is turned once".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q Pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io

import pyvips
from PIL import Image, ImageOps

ORIENTATION = 0x0112
TURN = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}
# The upright picture is 20 wide and 40 high, with a red top.
upright = Image.new("RGB", (20, 40), "blue")
upright.paste("red", (0, 0, 20, 20))
STORED = {3: upright.transpose(Image.Transpose.ROTATE_180), 6: upright.transpose(Image.Transpose.ROTATE_90)}


def is_upright(image):
    return image.size == (20, 40) and image.getpixel((10, 5))[0] > 200


def seen(form, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    STORED[orientation].save(file, form, exif=exif)
    opened = Image.open(file)
    size, tag = opened.size, opened.getexif().get(ORIENTATION)
    turned = opened.transpose(TURN[tag])
    left = opened.getexif().get(ORIENTATION)
    by_pillow = ImageOps.exif_transpose(Image.open(file))
    vips = pyvips.Image.new_from_buffer(file.getvalue(), "")
    result = (size, tag, left, is_upright(turned), is_upright(by_pillow), (vips.width, vips.height))
    print(f"{form}, orientation {orientation}: size {size}, tag {tag}, after reading {left}; turned by the tag, upright: {result[3]};"
          f" by exif_transpose: {result[4]}; libvips has {vips.width} x {vips.height}")
    return result


for form in ("JPEG", "PNG"):
    assert seen(form, 6) == ((40, 20), 6, 6, True, True, (40, 20))
    assert seen(form, 3) == ((20, 40), 3, 3, True, True, (20, 40))
assert seen("TIFF", 6) == ((20, 40), 6, None, False, True, (40, 20))
assert seen("TIFF", 3) == ((20, 40), 3, None, False, True, (20, 40))
PYTHON
