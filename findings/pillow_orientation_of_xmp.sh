#!/usr/bin/env bash
# Pillow turns pictures by the orientation in their XMP packet, and calls it EXIF; libvips shows them as stored.
#
# Guess: `Image.getexif()` returns the tags of the EXIF block: without such a block it is empty, and `exif_transpose` does
#     nothing. So Pillow and another decoder agree on which way up a picture is, if both follow EXIF.
# Behaviour: if the block has no orientation, Pillow searches the XMP packet for `tiff:Orientation`, which programs write beside
#     that of EXIF. `getexif()` then has a tag that is in no EXIF block, and it is written into one when a picture is saved with
#     these tags. libvips does not turn JPEG, PNG or WebP by XMP. An orientation of 1 in EXIF keeps Pillow from looking.
# Versions: Pillow 13.0.0; pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18) to compare.
# Date: 2026-11-29.
# Source: PIL/Image.py, Image.getexif, "XMP tags".
# Covered by: flows/imaging/metadata.py, `_of_image`, where the row has the orientation by which the derivatives were turned.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q Pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io

import pyvips
from PIL import Image, ImageOps, PngImagePlugin

ORIENTATION = 0x0112
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def seen(form, **options):
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(file, form, **options)
    opened = Image.open(file)
    shown = pyvips.Image.new_from_buffer(file.getvalue(), "").autorot()
    result = ("exif" in opened.info, opened.getexif().get(ORIENTATION), ImageOps.exif_transpose(opened).size, (shown.width, shown.height))
    print(f"{form}: has EXIF: {result[0]}; orientation of getexif: {result[1]}; size by Pillow {result[2]}, by libvips {result[3]}")
    return result


text = PngImagePlugin.PngInfo()
text.add_itxt("XML:com.adobe.xmp", XMP.decode())
for form, options in (("JPEG", {"xmp": XMP}), ("PNG", {"pnginfo": text}), ("WEBP", {"xmp": XMP})):
    assert seen(form, **options) == (False, 6, (20, 40), (40, 20))
upright = Image.Exif()
upright[ORIENTATION] = 1
assert seen("JPEG", xmp=XMP, exif=upright) == (True, 1, (40, 20), (40, 20))

source, target = io.BytesIO(), io.BytesIO()
Image.new("RGB", (40, 20), "red").save(source, "JPEG", xmp=XMP)
tags = Image.open(source).getexif()
Image.new("RGB", (40, 20), "red").save(target, "JPEG", exif=tags)
written = pyvips.Image.new_from_buffer(target.getvalue(), "").get("orientation")
print("saved with these tags, libvips finds the orientation", written)
assert written == 6
PYTHON
