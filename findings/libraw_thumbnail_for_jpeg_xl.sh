#!/usr/bin/env bash
# Of a DNG whose previews are JPEG XL, LibRaw returns the thumbnail of 160 pixels as the preview, and does not say so.
#
# Guess: `extract_thumb` returns the largest embedded preview, as it does for cameras' files; if that is in a format that LibRaw
#     cannot read, it raises LibRawUnsupportedThumbnailError, so that a program can go another way.
# Behaviour: DNG 1.7 allows JPEG XL for previews as well, and Adobe's converter writes it. LibRaw leaves such a preview out of its choice,
#     and returns what remains: the thumbnail for lists of files, as pixels or JPEG. If nothing remains, it says "No thumbnail in
#     file". No attribute of rawpy shows that there is a larger preview. So the same photograph has a preview of full size
#     before the conversion and one of 160 pixels after it; a test whose file has one preview does not show it.
# Versions: rawpy 0.28.0 (LibRaw 0.22), Pillow 13.0.0, pillow-jxl-plugin 1.3.8 to write JPEG XL.
# Date: 2026-11-29.
# Source: https://github.com/LibRaw/LibRaw/issues/841; DNG specification 1.7.1, "Compression", 52546.
# Covered by: flows/imaging/pixels/raw.py, which accepts a small preview; tests/flows/imaging/test_raw_files.py, "a dng with jpeg xl is
#     shown by its jpeg or not supported and keeps its metadata".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rawpy==0.28.0 Pillow==13.0.0 pillow-jxl-plugin==1.3.8
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import pillow_jxl  # noqa: F401 - registers the format JXL.
import rawpy
from PIL import Image

FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 10: "i"}  # by the type numbers of TIFF; 5 and 10 are pairs
UNCOMPRESSED, JPEG, JPEG_XL = 1, 7, 52546


def picture(form, width, height):
    if form == UNCOMPRESSED:
        return form, bytes((10, 200, 30)) * width * height, (width, height)
    file = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(file, "JPEG" if form == JPEG else "JXL")
    return form, file.getvalue(), (width, height)


def dng(*previews):
    """A DNG with a sensor of 64 x 64 samples; the first preview is in the first folder, the others are below it."""
    sensor = b"".join(struct.pack("<H", x * y % 4000) for y in range(64) for x in range(64))
    out = bytearray(b"II*\0\0\0\0\0" + sensor)

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

    def of_preview(form, content, size):
        at, colors = len(out), 6 if form == JPEG else 2
        out.extend(content + b"\0" * (len(content) % 2))
        return [(254, 4, 1), (256, 4, size[0]), (257, 4, size[1]), (258, 3, 8, 8, 8), (259, 3, form), (262, 3, colors)] + [
            (273, 4, at), (277, 3, 3), (278, 4, size[1]), (279, 4, len(content))
        ]

    mosaic = folder(
        [(254, 4, 0), (256, 4, 64), (257, 4, 64), (258, 3, 16), (259, 3, 1), (262, 3, 32803), (273, 4, 8), (277, 3, 1)]
        + [(278, 4, 64), (279, 4, len(sensor)), (33421, 3, 2, 2), (33422, 1, 0, 1, 1, 2), (50717, 4, 4095)]
    )
    below = [folder(of_preview(*preview)) for preview in previews[1:]]
    first = folder(
        of_preview(*previews[0])
        + [(271, 2, "Maker"), (272, 2, "Model"), (274, 3, 1), (330, 4, mosaic, *below), (50706, 1, 1, 7, 1, 0)]
        + [(50707, 1, 1, 7, 0, 0), (50708, 2, "Maker Model"), (50728, 5, 1, 1, 1, 1, 1, 1), (50778, 3, 21)]
        + [(50721, 10, *(1, 1, 0, 1, 0, 1), *(0, 1, 1, 1, 0, 1), *(0, 1, 0, 1, 1, 1))]
    )
    out[4:8] = struct.pack("<I", first)
    return bytes(out)


def extracted(name, *previews):
    with open("a.dng", "wb") as file:
        file.write(dng(*previews))
    with rawpy.imread("a.dng") as raw:
        try:
            found = raw.extract_thumb()
        except rawpy.LibRawError as error:
            result = type(error).__name__
        else:
            is_jpeg = found.format == rawpy.ThumbFormat.JPEG
            result = Image.open(io.BytesIO(found.data)).size if is_jpeg else found.data.shape[1::-1]
    print(f"{name}: {result}")
    return result


small, small_jpeg = picture(UNCOMPRESSED, 160, 120), picture(JPEG, 160, 120)
large, large_xl = picture(JPEG, 1024, 768), picture(JPEG_XL, 1024, 768)
assert extracted("thumbnail, and a preview in JPEG", small, large) == (1024, 768)
assert extracted("thumbnail, and a preview in JPEG XL", small, large_xl) == (160, 120)
assert extracted("thumbnail in JPEG, and a preview in JPEG XL", small_jpeg, large_xl) == (160, 120)
assert extracted("a preview in JPEG XL alone", large_xl) == "LibRawNoThumbnailError"
PYTHON
