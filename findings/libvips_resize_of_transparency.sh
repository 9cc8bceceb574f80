#!/usr/bin/env bash
# libvips' `resize` mixes the hidden colors of transparent pixels into the edges of what is seen; `thumbnail_image` does not.
#
# Guess: both make a picture smaller in the same way, and know from `hasalpha()` that the last band is opacity. What a fully
#     transparent pixel has for a color, often what was there before something was cut out, is never seen.
# Behaviour: `resize`, which is the way to keep numbers that are no sRGB colors, averages each band by itself. Beside a cut-out
#     red, half-opaque pixels are half green, if green is hidden under the transparency. `thumbnail_image` weights colors by
#     opacity, and gives pure red. So does `resize` between `premultiply` and `unpremultiply`, also in CIELAB.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18).
# Date: 2026-11-28.
# Source: libvips, `libvips/resample/resize.c` and `libvips/resample/thumbnail.c`, which alone calls vips_premultiply.
# Covered by: flows/imaging/pixels/decode.py, `_decode_by_libvips`; tests/flows/imaging/test_colors_of_images.py, "a hidden color of
#     a lab TIFF is not seen at an edge".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7
"$folder/venv/bin/python" - <<'PYTHON'
import pyvips

hidden = pyvips.Image.black(100, 100).copy(interpretation="srgb").bandjoin([255, 0, 0])
seen = pyvips.Image.black(100, 100).copy(interpretation="srgb").bandjoin([0, 0, 255]) + [255, 0, 0, 0]
picture = hidden.join(seen.cast("uchar"), "horizontal").copy(interpretation="srgb")
lab = picture[:3].colourspace("lab").bandjoin(picture[3].cast("float"))
SCALE, EDGE = 21 / 200, (10, 5)


def shown(words, small):
    color = small[:3].colourspace("srgb").bandjoin(small[3])(*EDGE) if small.interpretation == "lab" else small(*EDGE)
    red, green, blue, opacity = (round(value) for value in color)
    print(f"{words}: red {red}, green {green}, blue {blue}, opacity {opacity}")
    assert 100 < opacity < 155
    return red, green


def weighted(image):
    return image.premultiply(max_alpha=255).resize(SCALE).unpremultiply(max_alpha=255).copy(interpretation=image.interpretation)


print("transparent green beside opaque red; at the edge is")
assert shown("thumbnail_image", picture.thumbnail_image(21)) == (255, 0)
assert shown("resize", picture.resize(SCALE)) == (127, 127)
assert shown("resize between premultiply and unpremultiply", weighted(picture)) == (255, 0)
red, green = shown("resize of CIELAB", lab.resize(SCALE))
assert green > 100
assert shown("CIELAB between premultiply and unpremultiply", weighted(lab)) == (255, 0)
PYTHON
