#!/usr/bin/env bash
# Decoders of HEIC, AVIF and PNG ignore colors that a file names by code points, and do not show that it names any.
#
# Guess: a library that converts pictures with color profiles to sRGB also converts those whose colors are named by a
#     `colr` box of type `nclx`, or by a `cICP` chunk: cameras write them in place of a profile, as for HDR (PQ, HLG).
# Behaviour: libvips and Pillow return the stored values unchanged, also when they are asked for sRGB. A pale red of
#     Display P3 or a grey of PQ looks like the same numbers in sRGB: dull colors, grey pictures. No field of libvips and
#     no entry of `Image.info` in Pillow shows the code points; a program must read the file's boxes itself.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0.
# Date: 2026-11-28.
# Source: ISO/IEC 23008-12 and ITU-T H.273 (`nclx`); PNG specification, third edition (`cICP`).
# Covered by: flows/imaging/pixels/coded_colors.py; tests/flows/imaging/test_coded_colors.py, which compares with Chromium.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import zlib

import pyvips
from PIL import Image

COLOR = (200, 60, 40)


def avif(primaries, transfer):
    written = io.BytesIO()
    Image.new("RGB", (32, 32), COLOR).save(written, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(written.getvalue())
    struct.pack_into(">HH", data, data.index(b"colrnclx") + 8, primaries, transfer)
    return bytes(data)


def png(primaries, transfer):
    written = io.BytesIO()
    Image.new("RGB", (32, 32), COLOR).save(written, "PNG")
    data, chunk = written.getvalue(), b"cICP" + bytes([primaries, transfer, 0, 1])
    return data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


seen, fields = set(), set()
for store in (avif, png):
    for name, pair in {"sRGB": (1, 13), "Display P3": (12, 13), "BT.2020 with PQ": (9, 16)}.items():
        content = store(*pair)
        header = pyvips.Image.new_from_buffer(content, "")
        shown = header.thumbnail_image(32, output_profile="srgb")(16, 16)
        with Image.open(io.BytesIO(content)) as picture:
            other = picture.convert("RGB").getpixel((16, 16))
            fields |= {*header.get_fields(), *picture.info}
        print(f"{store.__name__} in {name}: libvips {[int(each) for each in shown]}, Pillow {list(other)}")
        seen |= {tuple(round(each / 4) for each in values) for values in (shown, other)}

print("fields:", ", ".join(sorted(fields)))
named = [field for field in fields if any(word in field.lower() for word in ("nclx", "cicp", "primaries", "transfer"))]
if len(seen) > 1 or named:
    raise SystemExit("The behaviour has changed: colors are converted or named.")
PYTHON
echo "as recorded: the same values, whatever colors they stand for"
