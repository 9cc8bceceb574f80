#!/usr/bin/env bash
# Exiv2 turns the date of an XMP sidecar into EXIF in the time zone of the computer that does it, and without an offset.
#
# Guess: EXIF's DateTimeOriginal is the local time at which the camera took the picture. A sidecar whose DateCreated is
#     2024-05-17T18:30:00+02:00 therefore means 18:30 in EXIF, wherever it is read; the offset has a tag of its own.
# Behaviour: when Exiv2 converts XMP to EXIF, a date with an offset is converted to the time zone of the process:
#     16:30 in UTC, 12:30 in New York. No tag of the offset is written, so that nothing shows it. A
#     date without an offset stays as it is. The same picture is in another order, or on another day, on another computer.
# Versions: pyexiv2 2.16.0 (Exiv2 0.28.8).
# Date: 2026-11-29.
# Source: Exiv2, src/convert.cpp, Converter::cnvXmpDate.
# Covered by: flows/imaging/headers/xmp.py and moments.py, which keep the time and the offset as they are written;
#     tests/flows/imaging/test_photo_metadata.py, which expects XMP's 2014:09:18 14:29:04+02:00 with its offset.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyexiv2==2.16.0
cd "$folder"
cat > a.xmp <<'XMP'
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 photoshop:DateCreated="2024-05-17T18:30:00+02:00" xmp:CreateDate="2024-05-17T18:30:00"/></rdf:RDF></x:xmpmeta>
XMP
cat > look.py <<'PYTHON'
import os
import sys

import pyexiv2

with pyexiv2.Image("a.xmp") as sidecar:
    xmp = sidecar.read_xmp()
exif = pyexiv2.convert_xmp_to_exif(xmp)
taken, digitized = exif["Exif.Photo.DateTimeOriginal"], exif["Exif.Photo.DateTimeDigitized"]
offsets = [name for name in exif if "Offset" in name]
print(f"TZ={os.environ['TZ']}: XMP {xmp['Xmp.photoshop.DateCreated']}; EXIF {taken}, without an offset in XMP {digitized}; tags of offsets: {offsets}")
assert xmp["Xmp.photoshop.DateCreated"] == "2024-05-17T18:30:00+02:00"
assert (taken, digitized, offsets) == (f"2024:05:17 {sys.argv[1]}:30:00", "2024:05:17 18:30:00", [])
PYTHON
TZ=UTC "$folder/venv/bin/python" look.py 16
TZ=Europe/Berlin "$folder/venv/bin/python" look.py 18
TZ=America/New_York "$folder/venv/bin/python" look.py 12
