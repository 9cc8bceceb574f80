#!/usr/bin/env bash
# `thumbnail_image` of numbers that are no colors clips them to 0 to 255, although nothing asked for colors.
#
# Guess: a float image with the interpretation "multiband" is only made smaller; `resize` and `thumbnail_image` differ in
#     how they choose the size.
# Behaviour: `thumbnail_image` converts to ordinary colors on its way: negative numbers become 0 and the result is
#     8-bit. `resize` keeps them. Float greys from 0 to 1 become black in the same way.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18).
# Date: 2026-11-28.
# Source: libvips, `libvips/resample/thumbnail.c`: "to the processing colourspace".
# Covered by: flows/imaging/pixels/srgb.py, `resized`; tests/flows/imaging/test_colors_of_images.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pyvips

numbers = (pyvips.Image.black(64, 64, bands=3) - [0, 48, -41]).cast("float").copy(interpretation="multiband")
by_thumbnail = numbers.thumbnail_image(16)
by_resize = numbers.resize(0.25)
print("numbers:", numbers(8, 8), "thumbnail_image:", by_thumbnail.format, by_thumbnail(8, 8), "resize:", by_resize(8, 8))
assert by_thumbnail(8, 8)[1] == 0 and by_thumbnail.format == "uchar"
assert by_resize(8, 8)[1] == -48

grey = (pyvips.Image.black(64, 64) + 0.5).cast("float").copy(interpretation="b-w")
print("grey of 0.5 in float:", grey.thumbnail_image(16)(8, 8))
assert grey.thumbnail_image(16)(8, 8)[0] <= 1
PYTHON
