#!/usr/bin/env bash
# libvips' `thumbnail` of a TIFF shows its second page, another picture, if that has half the width and height of the first.
#
# Guess: `thumbnail` shows the first page, or the page that the options name; smaller copies of it are used if the file says that they
#     are such copies (NewSubfileType 1, as TIFF pyramids have it, or SubIFDs).
# Behaviour: libvips compares sizes alone. If each page is about half as large as the page before, the file counts as a pyramid, and the
#     smallest page that is large enough is decoded: a small thumbnail shows the second or the third page, a large one the
#     first. NewSubfileType is not read, the page may have other bands, such as an infrared channel or a mask in grey, and an odd
#     edge may be rounded. The option `page=0` does not prevent it, since libvips replaces it. With one page of another size the
#     first page is shown again. `new_from_file` and `thumbnail_image` show the first page in each case.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0 to write the files.
# Date: 2026-11-29.
# Source: libvips, `libvips/resample/thumbnail.c`, vips_thumbnail_get_tiff_pyramid_page, which compares widths and heights.
# Covered by: flows/imaging/pixels/decode.py, `_decode_by_libvips`; tests/flows/imaging/test_stored_thumbnails.py, "a derivative is not
#     made of a smaller page of a tiff".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 Pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pyvips
from PIL import Image

RED, BLUE = (200, 0, 0), (0, 0, 200)


def tiff(name, *pages):
    pages[0].save(name, save_all=True, append_images=pages[1:])


def color(image):
    return tuple(round(value) for value in image.getpoint(image.width // 2, image.height // 2))


first = Image.new("RGB", (2001, 1501), RED)
tiff("one.tif", first)
tiff("half.tif", first, Image.new("RGB", (1000, 750), BLUE))
tiff("grey.tif", first, Image.new("L", (1000, 750), 77))
tiff("other.tif", first, Image.new("RGB", (1000, 750), BLUE), Image.new("RGB", (2001, 1501), BLUE))
seen = {}
for name in ("one", "half", "grey", "other"):
    for size in (1500, 800):
        seen[name, size] = color(pyvips.Image.thumbnail(f"{name}.tif[page=0]", size))
    whole = pyvips.Image.new_from_file(f"{name}.tif", access="sequential")
    print(f"{name}: 1500 pixels {seen[name, 1500]}, 800 pixels {seen[name, 800]}", end="; ")
    print(f"by thumbnail_image {color(whole.thumbnail_image(800))}")
    whole = pyvips.Image.new_from_file(f"{name}.tif", access="sequential")
    assert color(whole.thumbnail_image(800)) == RED
    assert seen[name, 1500] == RED
assert seen["one", 800] == seen["other", 800] == RED
assert seen["half", 800] == BLUE
assert seen["grey", 800] == (77,)
PYTHON
