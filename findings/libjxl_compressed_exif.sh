#!/usr/bin/env bash
# libjxl compresses the EXIF block of a JPEG that it takes over, and divides the picture's header from the rest.
#
# Guess: a JPEG XL file has its date and camera in a box of type `Exif`, and its picture in one box that begins with the
#     size, so that both are found as in other files of boxes.
# Behaviour: when libjxl compresses a JPEG again without loss, which is how whole libraries are turned into JPEG XL, the
#     EXIF block is in a box `brob`, compressed by Brotli, and the picture is in boxes `jxlp`, of which the first may have
#     no more than six bytes.
# Versions: imagecodecs 2026.3.6 (libjxl 0.11), brotli 1.2.1, Pillow 13.0.0 to write the JPEG.
# Date: 2026-11-28.
# Source: ISO/IEC 18181-2:2024, "Brotli-compressed box" and "Partial codestream box".
# Covered by: flows/imaging/headers/containers.py and flows/imaging/headers/stored_size.py; tests/flows/imaging/test_pillow_formats.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q imagecodecs==2026.3.6 brotli==1.2.1 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import brotli
import imagecodecs
from PIL import Image

exif = Image.Exif()
exif[0x010F] = "Testmaker"
exif[0x0112] = 6
written = io.BytesIO()
Image.new("RGB", (120, 80), (200, 30, 30)).save(written, "JPEG", exif=exif)
data = imagecodecs.jpegxl_encode_jpeg(written.getvalue(), usecontainer=True)

boxes, at = [], 0
while at < len(data):
    size, kind = struct.unpack_from(">I4s", data, at)
    boxes.append((kind, data[at + 8 : at + size if size else len(data)]))
    at += size or len(data)
for kind, content in boxes:
    print(kind.decode(), len(content), "bytes")
kinds = [kind for kind, _ in boxes]
assert b"Exif" not in kinds, "the EXIF block is not compressed"
compressed = next(content for kind, content in boxes if kind == b"brob")
assert compressed[:4] == b"Exif" and b"Testmaker" in brotli.decompress(compressed[4:])
first = next(content for kind, content in boxes if kind == b"jxlp")
assert len(first) <= 10, "the first part is longer than the header"
PYTHON
