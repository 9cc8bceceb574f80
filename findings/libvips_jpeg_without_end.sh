#!/usr/bin/env bash
# libvips with `fail_on="error"` refuses a JPEG that lacks its last two bytes, and accepts one that lacks lines but has those bytes.
#
# Guess: with this option a whole picture is read, and one whose lines are missing is an error. It is said to fail on serious errors, and
#     not on warnings, which harmless irregularities of cameras cause.
# Behaviour: only the end of the file counts: the marker of two bytes that ends a JPEG. Without it all lines may be there, as in files of some
#     cameras and programs for recovery, and it is an error. If the data of the last lines are missing and the marker follows, as after
#     a transfer that a program has closed in order, libjpeg warns, and the lines are invented: no error. `fail_on="warning"` refuses
#     it, and so it does harmless files. To know whether lines are missing, one can decode the file with two different endings, and
#     compare.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0 to write the file.
# Date: 2026-11-29.
# Source: libvips, `libvips/foreign/jpeg2vips.c`, source_fill_input_buffer, which raises the error; libjpeg, jdhuff.c, JWRN_HIT_MARKER.
# Covered by: flows/imaging/pixels/decode.py, `_with_its_end`; tests/flows/imaging/test_pillow_formats.py, "a jpeg that lacks only its end is
#     shown".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7 Pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import random

import pyvips
from PIL import Image

WIDTH, HEIGHT, END = 400, 300, b"\xff\xd9"
pixels = random.Random(1).randbytes(WIDTH * HEIGHT * 3)
written = io.BytesIO()
Image.frombytes("RGB", (WIDTH, HEIGHT), pixels).save(written, "JPEG", quality=90)
whole = written.getvalue()
assert whole.endswith(END)
cut = whole[: len(whole) * 9 // 10]


def decoded(content, fail_on):
    try:
        return pyvips.Image.new_from_buffer(content, "", fail_on=fail_on).copy_memory()
    except pyvips.Error:
        return None


def differs(content, other):
    """Whether two contents give different pixels, without regard to errors."""
    return (decoded(content, "none") - decoded(other, "none")).abs().max() > 0


files = {"whole": whole, "without the end marker": whole[:-2], "cut off": cut, "cut off, with the marker": cut + END}
seen = {}
for name, content in files.items():
    seen[name] = {level: decoded(content, level) is not None for level in ("error", "warning")}
    lost = differs(content, whole)
    print(f"{name}: accepted {seen[name]}, lines are missing: {lost}")
    assert lost == name.startswith("cut off")
assert seen["whole"] == {"error": True, "warning": True}
assert not seen["without the end marker"]["error"] and not seen["cut off"]["error"]
assert seen["cut off, with the marker"] == {"error": True, "warning": False}
filled = b"\x55" * 64
assert not differs(whole[:-2] + END, whole[:-2] + filled + END)
assert differs(cut + END, cut + filled + END)
PYTHON
