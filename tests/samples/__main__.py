"""`python -m tests.samples`: compares what photojobs and exiftool read from sample files of many cameras and programs.

`fetch FOLDER` takes the samples from public packages: Pillow, pillow-heif and piexif as source archives from the
package index, ExifTool and KDE's image formats as source packages of Debian, for which apt must have them enabled.
No sample is kept in the repository. `compare FOLDER` reads every file of an accepted format below the folder.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from flows.imaging.errors import ImagingError
from flows.imaging.isolation.image_processing import ImagePool
from flows.imaging.thumbnail_and_preview import Derivatives
from storage.library.naming.kinds import JPG_EXTENSIONS, OTHER_EXTENSIONS, RAW_EXTENSIONS

ARCHIVES: Final = ("pillow==13.0.0", "pillow-heif==1.8.1", "piexif==1.1.3")
SOURCE_PACKAGES: Final = ("libimage-exiftool-perl", "kimageformats")
#: Parts of the names of samples that are broken or cut off on purpose.
BROKEN: Final = re.compile(
    r"corrupt|truncat|broken|empty\.|oom-|seek_too_large|notjpeg|syntax_|crash|timeout|segfault|invalid_header_length"
    r"|not_enough_data|expected_to_read|10ct_32bit|ultrahdr|gray_l\.jp2|graya_la\.jp2|balloon"
)
#: Below this share of agreement the command fails.
LEAST_AGREEMENT: Final = 0.995

# The most reliable date comes first. Dates of films and of maker notes are not read, but for formats that have
# no others.
DATES: Final = (
    r"EXIF:\w+:DateTimeOriginal",
    r"EXIF:\w+:CreateDate",
    r"(MakerNotes:CanonRaw|SigmaRaw):DateTimeOriginal",
    r"Composite:DateTimeOriginal",
    r"XMP:XMP-exif:DateTimeOriginal",
    r"XMP:XMP-photoshop:DateCreated",
    r"XMP:XMP-xmp:CreateDate",
    r"EXIF:\w+:ModifyDate",
    r"IPTC:DateCreated",
)
HEIF_TYPES: Final = ("image/heic", "image/heif", "image/avif", "image/heic-sequence", "image/avif-sequence")

say = partial(print, flush=True)


def main() -> int:
    """Fetch or compare samples; the exit code is 1 if too few values agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.samples", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, meaning in (
        ("fetch", "download the samples"),
        ("compare", "read the samples with both programs, and compare the values"),
    ):
        commands.add_parser(name, help=meaning).add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "fetch":
        return fetch(arguments.folder)
    return compare(arguments.folder)


def fetch(folder: Path) -> int:
    """Download the archives, and unpack them below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for archive in ARCHIVES:
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", archive], folder)
    run(["apt-get", "source", "-qq", "--download-only", *SOURCE_PACKAGES], folder)
    for packed in sorted([*folder.glob("*.tar.gz"), *folder.glob("*.orig.tar.xz"), *folder.glob("*.zip")]):
        options = {} if packed.suffix == ".zip" else {"filter": "data"}
        shutil.unpack_archive(packed, folder / packed.name.split("-")[0].split("_")[0], **options)
    return 0


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=600)


def compare(folder: Path) -> int:
    """Read every sample below a folder, and print the values in which photojobs and exiftool differ."""
    accepted = JPG_EXTENSIONS | RAW_EXTENSIONS | OTHER_EXTENSIONS
    samples = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower()[1:] in accepted and path.is_file() and not BROKEN.search(str(path.relative_to(folder)))
    ]
    counts: Counter[str] = Counter()
    with ImagePool() as pool:
        for path, tags in zip(samples, exiftool(samples), strict=True):
            for field, seen, expected in differences(pool, path, tags, counts):
                say(f"{path.relative_to(folder)}: {field} is {seen!r}, in place of {expected!r}")
    compared = sum(count for field, count in counts.items() if field.endswith(" compared"))
    different = sum(count for field, count in counts.items() if field.endswith(" different"))
    share = (compared - different) / compared if compared else 0.0
    say(f"{len(samples)} files of {len({path.suffix.lower() for path in samples})} extensions")
    for field in sorted({name.rsplit(" ", 1)[0] for name in counts}):
        say(f"  {field}: {counts[f'{field} different']} of {counts[f'{field} compared']} differ")
    say(f"agreement {share:.2%}, at least {LEAST_AGREEMENT:.1%} is asked for")
    return int(share < LEAST_AGREEMENT)


def exiftool(samples: list[Path]) -> list[dict[str, Any]]:
    """Return what exiftool reads from each file: numbers as stored, names with their groups."""
    names = ("DateTimeOriginal", "CreateDate", "ModifyDate", "DateCreated", "Orientation", "Make", "Model", "MIMEType")
    found = subprocess.run(
        ["exiftool", "-j", "-n", "-a", "-G0:1", *(f"-{name}" for name in names), "-@", "-"],
        input="\n".join(map(str, samples)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = {Path(tags["SourceFile"]): tags for tags in json.loads(found.stdout)}
    return [said[path] for path in samples]


def differences(pool: ImagePool, path: Path, tags: dict[str, Any], counts: Counter[str]) -> list[tuple[str, Any, Any]]:
    """Return the differences of one file: field, our value, value of exiftool. Add the compared values to `counts`."""
    try:
        read = pool.read_metadata(path)
    except ImagingError as error:
        counts["readable compared"] += 1
        counts["readable different"] += 1
        return [("readable", str(error), True)]
    pairs = {
        "readable": (True, True),
        "date": ((read.taken_at or "")[:19], date_of(tags)),
        "make": (read.make, text_of(tags, r"(EXIF|MakerNotes):\w+:Make|SigmaRaw:Make")),
        "model": (read.model, text_of(tags, r"(EXIF|MakerNotes):\w+:Model|SigmaRaw:Model")),
        "plan": planned(pool, path),
    }
    stored = next((tags[name] for name in tags if re.fullmatch(r"EXIF:IFD0:Orientation", name)), None)
    # A HEIF file states the rotation itself, so the rotation in its EXIF does not count.
    if stored and tags.get("File:File:MIMEType", tags.get("File:MIMEType")) not in HEIF_TYPES:
        pairs["orientation"] = (read.orientation, stored)
    counts.update(f"{field} compared" for field in pairs)
    different = [(field, ours, theirs) for field, (ours, theirs) in pairs.items() if ours != theirs]
    counts.update(f"{field} different" for field, _, _ in different)
    return different


def planned(pool: ImagePool, path: Path) -> tuple[str, str]:
    """Return the status that `inspect` predicts for a file, and the status after its preview is made."""
    with tempfile.TemporaryDirectory(prefix="pj-") as folder:
        return (
            status_of(lambda: pool.inspect(path)),
            status_of(lambda: pool.make_derivatives(path, preview=Path(folder) / "a.webp")),
        )


def status_of(look: Callable[[], Derivatives]) -> str:
    try:
        return look().status
    except ImagingError as error:
        return f"failed: {type(error).__name__}"


def date_of(tags: dict[str, Any]) -> str:
    """Return the first valid date, to the second, as ISO 8601 text; empty if there is none."""
    for pattern in DATES:
        for name, value in tags.items():
            found = re.match(r"(\d{4}):(\d\d):(\d\d)(?: (\d\d:\d\d)(?::(\d\d))?)?", str(value))
            if re.fullmatch(pattern, name) and found and found[2] != "00" and found[1] >= "1826":
                second = found[5] or "00"
                return f"{found[1]}-{found[2]}-{found[3]}T{found[4] or '00:00'}:{second if second < '60' else '00'}"
    return ""


def text_of(tags: dict[str, Any], pattern: str) -> str | None:
    """Return the first text of exiftool whose tag fits the pattern, without needless spaces; None if there is none."""
    return next((" ".join(str(tags[name]).split()) or None for name in tags if re.fullmatch(pattern, name)), None)


if __name__ == "__main__":
    sys.exit(main())
