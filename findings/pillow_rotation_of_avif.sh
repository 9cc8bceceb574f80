#!/usr/bin/env bash
# Pillow turns a HEIC picture upright and says so; of an AVIF picture, which is the same format, it shows the stored pixels.
#
# Guess: HEIC and AVIF are one file format with two codecs. Both have the rotation in the box `irot`, and EXIF counts in neither. So
#     one Python program opens both, and the pixels are upright, as libvips, browsers and the plug-in for HEIC return them.
# Behaviour: Pillow's own AVIF plug-in applies no rotation. It writes it into the EXIF block that it hands out, also if the file
#     has no such block, and replaces what the file has there. A program that was made for HEIC, and ignores the tag or expects 1,
#     shows phone pictures on their side, and makes such thumbnails; one that reads the orientation from the file
#     itself finds none. `exif_transpose` is right for both. The size that libvips reports is that of the upright picture.
# Versions: Pillow 13.0.0, pillow-heif 1.8.1; pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18) to compare.
# Date: 2026-11-29.
# Source: PIL/AvifImagePlugin.py, AvifImageFile._open; ISO/IEC 23000-22 (MIAF), 7.3.10.1;
#     https://github.com/python-pillow/Pillow/pull/8866.
# Covered by: flows/imaging/pixels/pillow.py, `_orientation_of_pixels`; tests/flows/imaging/test_pillow_formats.py, "an AVIF whose
#     pixels Pillow reads is turned once".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q Pillow==13.0.0 pillow-heif==1.8.1 pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io

import pillow_heif
import pyvips
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
ORIENTATION = 0x0112
# The upright picture is 64 wide and 96 high, with a red top.
upright = Image.new("RGB", (64, 96), "blue")
upright.paste("red", (0, 0, 64, 48))
STORED = {3: upright.transpose(Image.Transpose.ROTATE_180), 6: upright.transpose(Image.Transpose.ROTATE_90)}


def is_upright(picture):
    return picture.size == upright.size and picture.getpixel((10, 5))[0] > 200


def seen(form, orientation):
    exif, written = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    # Both plug-ins write the orientation as a rotation of the format.
    STORED[orientation].save(written, form, exif=exif.tobytes(), quality=95)
    data = written.getvalue()
    assert b"irot" in data
    picture = Image.open(io.BytesIO(data))
    result = (is_upright(picture), picture.getexif().get(ORIENTATION), b"Exif" in data)
    print(f"{form}, orientation {orientation}: size {picture.size}, upright: {result[0]}, EXIF: {result[1]},"
          f" an EXIF block in the file: {result[2]}")
    assert is_upright(ImageOps.exif_transpose(picture))
    return *result, data


for orientation in STORED:
    assert seen("HEIF", orientation)[:3] == (True, 1, True)
    *found, data = seen("AVIF", orientation)
    assert found == [False, orientation, False]
    image = pyvips.Image.new_from_buffer(data, "")
    is_red = image(10, 5)[0] > 200
    print(f"    the AVIF in libvips: {image.width} x {image.height}, upright: {is_red}, orientation: {image.get_typeof('orientation') != 0}")
    assert (image.width, image.height, is_red, image.get_typeof("orientation")) == (64, 96, True, 0)
PYTHON
