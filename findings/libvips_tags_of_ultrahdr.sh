#!/usr/bin/env bash
# Since libvips 8.18 the JPEGs of current telephones come without XMP and IPTC: another loader takes those with a gain map.
#
# Guess: a JPEG is loaded by libvips as before, and a new version that knows UltraHDR only adds the gain map to what it
#     returns. Rating, keywords and caption of a picture are in `xmp-data` and `iptc-data`, whatever else it has.
# Behaviour: libvips 8.18 asks its loader `uhdrload` before `jpegload`. It reads EXIF and the profile, and neither XMP nor
#     IPTC. So a rating, which any program can write into such a file, is gone when libvips saves it, and XMP dates are not
#     found. Nothing is logged; a JPEG without a gain map keeps its tags. With `uhdrload` blocked, `jpegload` loads the
#     same file with all of them.
# Versions: pyvips 3.2.0, pyvips-binary 8.18.7 (libvips 8.18), and pyvips-binary 8.17.3 to compare.
# Date: 2026-11-28.
# Source: libvips, `libvips/foreign/uhdrload.c` (priority above that of jpegload.c); ISO 21496-1 and UltraHDR 1.1.
# Covered by: flows/imaging/pixels/vips.py, which blocks all loaders but those it names; flows/imaging/metadata.py;
#     tests/flows/imaging/test_photo_metadata.py, "a jpeg of a telephone with a gain map keeps its xmp date".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyvips==3.2.0 pyvips-binary==8.18.7
cd "$folder"
cat > look.py <<'PYTHON'
import pyvips


def seen(name):
    image = pyvips.Image.new_from_file(name)
    loader, tags = image.get("vips-loader"), [tag for tag in ("xmp-data", "iptc-data") if image.get_typeof(tag)]
    print(f"libvips {pyvips.version(0)}.{pyvips.version(1)}: {name} by {loader}: tags {tags}, Rating kept in a copy:", end=" ")
    image.jpegsave("copy.jpg")
    with open("copy.jpg", "rb") as file:
        is_kept = b"xmp:Rating" in file.read()
    print(is_kept)
    return loader, tags, is_kept
PYTHON
cat > new.py <<'PYTHON'
import struct

import pyvips

from look import seen

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>"""
IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 9) + b"\x1c\x02\x05\0\x04Town\0"


def with_tags(jpeg):
    """The JPEG with a rating in XMP and a title in IPTC, behind its JFIF segment."""
    end = 4 + struct.unpack(">H", jpeg[4:6])[0]
    tags = b""
    for marker, body in ((b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0" + XMP), (b"\xff\xed", IPTC)):
        tags += marker + struct.pack(">H", len(body) + 2) + body
    return jpeg[:end] + tags + jpeg[end:]


x = pyvips.Image.xyz(256, 192)
light = (x[0] / 128).bandjoin([x[1] / 96, x[0] * 0 + 0.3]).cast("float").copy(interpretation="scrgb")
for name, jpeg in (("hdr.jpg", light.uhdrsave_buffer()), ("plain.jpg", light.colourspace("srgb").jpegsave_buffer())):
    with open(name, "wb") as file:
        file.write(with_tags(jpeg))
assert seen("plain.jpg") == ("jpegload", ["xmp-data", "iptc-data"], True)
assert seen("hdr.jpg") == ("uhdrload", [], False)
pyvips.operation_block_set("VipsForeignLoadUhdr", True)
assert seen("hdr.jpg") == ("jpegload", ["xmp-data", "iptc-data"], True)
PYTHON
"$folder/venv/bin/python" new.py
"$folder/venv/bin/pip" install -q pyvips-binary==8.17.3
"$folder/venv/bin/python" -c 'from look import seen; assert seen("hdr.jpg") == ("jpegload", ["xmp-data", "iptc-data"], True)'
