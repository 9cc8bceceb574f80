#!/usr/bin/env bash
# libheif refuses the 200-megapixel pictures of a current telephone, in words that sound like a damaged file.
#
# Guess: a decoder's limits against hostile files are far above what a camera writes, so an error means a bad file.
# Behaviour: a picture of 16,320 x 12,240 pixels is stored as 800 tiles, each an item of the file. libheif as built into
#     the wheel of libvips allows 256 items and says "Memory allocation error". The same bytes open with the
#     documented option `unlimited`. Pillow's own decoder opens them as they are.
#     The script makes a small picture with 300 items more, which the format allows.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0 to write the file.
# Date: 2026-11-28.
# Source: ISO/IEC 23008-12, "Image grid"; libheif, `libheif/api/libheif/heif_security.h`; a sample of a Galaxy S24 Ultra
#     among the test images of the package pillow-heif 1.8.1 (`heif_special/200MP.heic`, 822 items).
# Covered by: flows/imaging/pixels/decode.py (`read_header`); tests/flows/imaging/test_pillow_formats.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import pyvips
from PIL import Image

written = io.BytesIO()
Image.new("RGB", (120, 80), (200, 30, 30)).save(written, "AVIF")
data = bytearray(written.getvalue())
count = 300
names = b"".join(
    struct.pack(">I4sIHH4s8s", 28, b"infe", 2 << 24, 100 + number, 0, b"mime", b"\0text/a") for number in range(count)
)
meta, places, items = (data.index(kind) - 4 for kind in (b"meta", b"iloc", b"iinf"))
shift = len(names) + 14 * count
# The picture is further back in the file now. Each further item has its first byte for contents.
(at,) = struct.unpack_from(">I", data, places + 22)
struct.pack_into(">I", data, places + 22, at + shift)
contents = b"".join(struct.pack(">HHHII", 100 + number, 0, 1, at + shift, 1) for number in range(count))


def grow(box: int, by: int) -> int:
    (size,) = struct.unpack_from(">I", data, box)
    struct.pack_into(">I", data, box, size + by)
    return box + size


grow(meta, shift)
struct.pack_into(">H", data, places + 14, 1 + count)
struct.pack_into(">H", data, items + 12, 1 + count)
end = grow(items, len(names))
data[end:end] = names
end = grow(places, len(contents))
data[end:end] = contents
open("items.avif", "wb").write(data)

try:
    pyvips.Image.new_from_file("items.avif")
    raise SystemExit("libvips opens the file by itself")
except pyvips.Error as error:
    print("libvips:", str(error).strip().splitlines()[-1])
    assert "exceeds the security limit" in str(error)
print("libvips, unlimited:", pyvips.Image.new_from_file("items.avif", unlimited=True).avg())
assert pyvips.Image.new_from_file("items.avif", unlimited=True).width == Image.open("items.avif").size[0] == 120
print("Pillow:", Image.open("items.avif").size)
PYTHON
