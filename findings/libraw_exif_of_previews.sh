#!/usr/bin/env bash
# LibRaw gives a preview without EXIF an invented date, 1 January 1970 in the time zone of the process, and an orientation.
#
# Guess: `extract_thumb` returns the bytes of the preview as the camera stored them, so its EXIF block is the camera's word, and
#     a preview without EXIF has none.
# Behaviour: LibRaw writes an EXIF block in front of such a preview, by "dcraw", with the maker and the model. The date that
#     the raw file does not have becomes the start of 1970 in local time, so the same file has other dates on other
#     machines, one of them in 1969. The orientation is the sensor's: pixels that are stored upright would be
#     turned by each viewer that follows it.
# Versions: rawpy 0.28.0 (LibRaw 0.22), Pillow 13.0.0.
# Date: 2026-11-28.
# Source: LibRaw, src/write/file_write.cpp, tiff_head, and src/utils/thumb_utils.cpp.
# Covered by: flows/imaging/metadata.py, `_tags_of_embedded`; flows/imaging/thumbnail_and_preview.py, `_decode`;
#     tests/flows/imaging/test_raw_files.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rawpy==0.28.0 Pillow==13.0.0
cd "$folder"
cat > look.py <<'PYTHON'
import io
import sys

import rawpy
from PIL import Image

with rawpy.imread("a.dng") as raw:
    exif = Image.open(io.BytesIO(raw.extract_thumb().data)).getexif()
print(exif.get(306), exif.get(274), exif.get(305), sep=", ", end="")
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import io
import os
import struct
import subprocess
import sys

from PIL import Image

FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 10: "i"}  # by the type numbers of TIFF; 5 and 10 are pairs


def dng(preview, size, orientation):
    """A DNG with a sensor of 64 x 64 samples, a JPEG preview and no date."""
    sensor = b"".join(struct.pack("<H", x * y % 4000) for y in range(64) for x in range(64))
    out = bytearray(b"II*\0\0\0\0\0" + sensor + preview + b"\0" * (len(preview) % 2))

    def folder(tags):
        entries = b""
        for tag, kind, *values in sorted(tags):
            if kind == 2:
                data = values[0].encode() + b"\0"
                count = len(data)
            else:
                data = struct.pack(f"<{len(values)}{FORMATS[kind]}", *values)
                count = len(values) // (2 if kind in (5, 10) else 1)
            if len(data) > 4:
                at = len(out)
                out.extend(data + b"\0" * (len(data) % 2))
                data = struct.pack("<I", at)
            entries += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        at = len(out)
        out.extend(struct.pack("<H", len(tags)) + entries + b"\0\0\0\0")
        return at

    mosaic = folder(
        [(254, 4, 0), (256, 4, 64), (257, 4, 64), (258, 3, 16), (259, 3, 1), (262, 3, 32803), (273, 4, 8), (277, 3, 1)]
        + [(278, 4, 64), (279, 4, len(sensor)), (33421, 3, 2, 2), (33422, 1, 0, 1, 1, 2), (50717, 4, 4095)]
    )
    first = folder(
        [(254, 4, 1), (256, 4, size[0]), (257, 4, size[1]), (258, 3, 8, 8, 8), (259, 3, 7), (262, 3, 6)]
        + [(271, 2, "Maker"), (272, 2, "Model"), (273, 4, 8 + len(sensor)), (274, 3, orientation), (277, 3, 3)]
        + [(278, 4, size[1]), (279, 4, len(preview)), (330, 4, mosaic), (50706, 1, 1, 4, 0, 0), (50707, 1, 1, 1, 0, 0)]
        + [(50708, 2, "Maker Model"), (50721, 10, *(1, 1, 0, 1, 0, 1), *(0, 1, 1, 1, 0, 1), *(0, 1, 0, 1, 1, 1))]
        + [(50728, 5, 1, 1, 1, 1, 1, 1), (50778, 3, 21)]
    )
    out[4:8] = struct.pack("<I", first)
    return bytes(out)


jpeg = io.BytesIO()
Image.new("RGB", (300, 400), (10, 200, 30)).save(jpeg, "JPEG")
print("EXIF of the preview as it is stored:", dict(Image.open(jpeg).getexif()))
with open("a.dng", "wb") as file:
    file.write(dng(jpeg.getvalue(), (300, 400), orientation=6))
seen = {}
for zone in ("UTC0", "EST5", "JST-9"):
    run = [sys.executable, "look.py"]
    seen[zone] = subprocess.run(run, check=True, capture_output=True, text=True, env={**os.environ, "TZ": zone}).stdout
    print(f"{zone}: {seen[zone]}")
dates = {"UTC0": "1970:01:01 00:00:00", "EST5": "1969:12:31 19:00:00", "JST-9": "1970:01:01 09:00:00"}
for zone, date in dates.items():
    assert seen[zone].startswith(f"{date}, 6, dcraw")
PYTHON
