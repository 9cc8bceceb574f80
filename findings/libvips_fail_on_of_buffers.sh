#!/usr/bin/env bash
# libvips' `thumbnail_buffer` and `thumbnail_source` take the option `fail_on`, and ignore it: half a JPEG becomes a picture, half grey.
#
# Guess: with `fail_on="error"` each function of libvips that reads a file raises an error if it is cut off. `thumbnail` does, and the
#     functions for bytes in memory and for sources have the same option, documented in the same words.
# Behaviour: only `thumbnail`, for names of files, passes the option on to the loader. For a buffer and for a source it is accepted, and has no
#     effect; the missing half is grey, in a small and in a large thumbnail. The same option in `option_string` is one of the loader,
#     and works with all three. `new_from_buffer` and `new_from_source` obey `fail_on`. So a program that is moved from files to sources, as
#     for uploads, begins to accept damaged pictures, without any change of its options.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), Pillow 13.0.0 to write the file.
# Date: 2026-11-29.
# Source: libvips, `libvips/resample/thumbnail.c`, where vips_thumbnail_buffer_open and vips_thumbnail_source_open leave `fail_on` out;
#     https://github.com/libvips/libvips/issues/5195.
# Covered by: flows/imaging/pixels/decode.py, `_decode_by_libvips`, which writes `fail_on` into the options of the loader;
#     tests/flows/imaging/test_derivatives_of_images.py, "a file that is cut off fails in every format".
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

WIDTH, HEIGHT = 800, 600
written = io.BytesIO()
Image.frombytes("RGB", (WIDTH, HEIGHT), random.Random(1).randbytes(WIDTH * HEIGHT * 3)).save(written, "JPEG")
half = written.getvalue()[: len(written.getvalue()) // 2]
with open("half.jpg", "wb") as file:
    file.write(half)


def made(name, make):
    try:
        image = make().copy_memory()
    except pyvips.Error:
        result = "error"
    else:
        last_lines = image.crop(0, image.height - 8, image.width, 8)
        result = "grey below" if last_lines.deviate() < 1 else "whole"
    print(f"{name}: {result}")
    return result


def source():
    return pyvips.Source.new_from_memory(half)


images = pyvips.Image
for size in (WIDTH, 200):
    strict, option = {"fail_on": "error"}, {"option_string": "[fail_on=error]"}
    assert made(f"file, {size}", lambda: images.thumbnail("half.jpg", size, **strict)) == "error"
    assert made(f"buffer, {size}", lambda: images.thumbnail_buffer(half, size, **strict)) == "grey below"
    assert made(f"source, {size}", lambda: images.thumbnail_source(source(), size, **strict)) == "grey below"
    assert made(f"buffer with option_string, {size}", lambda: images.thumbnail_buffer(half, size, **option)) == "error"
    assert made(f"source with option_string, {size}", lambda: images.thumbnail_source(source(), size, **option)) == "error"
assert made("new_from_buffer", lambda: images.new_from_buffer(half, "", fail_on="error")) == "error"
assert made("new_from_source", lambda: images.new_from_source(source(), "", fail_on="error")) == "error"
PYTHON
