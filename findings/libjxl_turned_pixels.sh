#!/usr/bin/env bash
# A phone's JPEG that libjxl has recompressed without loss is turned twice: its pixels come upright, and EXIF says to turn them.
#
# Guess: the recompression keeps all bytes of the JPEG, so that it is decoded to the stored pixels, and the EXIF block, which it
#     keeps as well, says which way up they are, as before. A file whose EXIF block is removed loses its orientation.
# Behaviour: libjxl writes the orientation into the header of the picture, too, and this one alone counts. Its decoder turns the pixels
#     unless it is told not to; imagecodecs does not tell it. A program that goes on to the EXIF block, which still says 6 or 3,
#     shows the picture on its side or upside down. pillow-jxl-plugin does tell it, but only if there is an EXIF block: then
#     the size is that of the stored pixels, and without the block that of the upright ones.
# Versions: imagecodecs 2026.3.6 (libjxl 0.11), pillow-jxl-plugin 1.3.8, Pillow 13.0.0.
# Date: 2026-11-29.
# Source: libjxl, doc/format_overview.md, "Metadata versus image data"; https://github.com/libjxl/libjxl/issues/4677 and 4182.
# Covered by: flows/imaging/headers/stored_size.py, whose orientation replaces that of EXIF in metadata.py;
#     tests/flows/imaging/test_pillow_formats.py, "JPEG XL says its size and turn as djxl does".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q imagecodecs==2026.3.6 pillow-jxl-plugin==1.3.8 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import imagecodecs
import pillow_jxl
from PIL import Image, ImageOps

ORIENTATION = 0x0112
# The upright picture is 64 wide and 96 high, with a red top.
upright = Image.new("RGB", (64, 96), "blue")
upright.paste("red", (0, 0, 64, 48))
STORED = {3: upright.transpose(Image.Transpose.ROTATE_180), 6: upright.transpose(Image.Transpose.ROTATE_90)}


def is_upright(picture):
    return picture.size == upright.size and picture.getpixel((10, 5))[0] > 200


def turned(picture, exif):
    picture = picture.copy()
    picture.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(picture)


def without_exif(data):
    """The same file without its EXIF block, and without the data that only restore the JPEG."""
    kept, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + size if size else len(data)
        kept += b"" if kind in (b"brob", b"jbrd") else data[at:end]
        at = end
    return kept


for orientation, stored in STORED.items():
    exif, written = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    stored.save(written, "JPEG", exif=exif, quality=95)
    data = imagecodecs.jpegxl_encode_jpeg(written.getvalue(), usecontainer=True)
    assert imagecodecs.jpegxl_decode_jpeg(data) == written.getvalue()

    decoded = Image.fromarray(imagecodecs.jpegxl_decode(data))
    twice = turned(decoded, exif)
    print(f"orientation {orientation}, stored as {stored.size}; imagecodecs: {decoded.size}, upright: {is_upright(decoded)},"
          f" turned by EXIF: {twice.size}, upright: {is_upright(twice)}")
    assert is_upright(decoded) and not is_upright(twice)

    plug_in, bare = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(without_exif(data)))
    print(f"    pillow-jxl-plugin: {plug_in.size}, upright: {is_upright(plug_in)}, EXIF {plug_in.getexif().get(ORIENTATION)};"
          f" without the EXIF block: {bare.size}, upright: {is_upright(bare)}")
    assert (plug_in.size, plug_in.getexif().get(ORIENTATION)) == (stored.size, orientation) and not is_upright(plug_in)
    assert is_upright(ImageOps.exif_transpose(plug_in))
    assert is_upright(bare) and ORIENTATION not in bare.getexif()
PYTHON
