#!/usr/bin/env bash
# libvips takes a fourth channel of a TIFF for transparency although the file says that it is none.
#
# Guess: ExtraSamples 0, "unspecified data", is what programs write for a saved selection, so a decoder that reads the
#     tag returns three opaque channels, or at least does not use the fourth as opacity when it makes a thumbnail.
# Behaviour: the image has four bands, `hasalpha()` is true, and a thumbnail is fully transparent where the selection
#     is empty, which is everywhere if nothing was selected. The tag itself is not among the image's fields.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), tifffile 2026.3.3 to write the file.
# Date: 2026-11-28.
# Source: TIFF 6.0, section "ExtraSamples"; libvips, `libvips/foreign/tiff2vips.c`, which counts bands only.
# Covered by: flows/imaging/headers/tiff_pixels.py; tests/flows/imaging/test_colors_of_images.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 tifffile==2026.3.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy
import pyvips
import tifffile

colors = numpy.full((64, 64, 3), (200, 40, 40), numpy.uint8)
selection = numpy.zeros((64, 64, 1), numpy.uint8)
tifffile.imwrite(
    "selection.tif", numpy.concatenate([colors, selection], 2), photometric="rgb", extrasamples=["unspecified"]
)
image = pyvips.Image.new_from_file("selection.tif")
small = pyvips.Image.thumbnail("selection.tif", 16)
print("bands:", image.bands, "transparency:", bool(image.hasalpha()), "pixel of the thumbnail:", small(8, 8))
assert image.bands == 4 and image.hasalpha() and small(8, 8)[3] == 0
assert not [name for name in image.get_fields() if "extra" in name.lower()]
PYTHON
