"""The functions that read foreign input. Each target reads bytes, and may refuse them only by a `PhotojobsError`."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from flows.imaging.headers.containers import read_embedded
from flows.imaging.headers.exif import read_exif_block
from flows.imaging.headers.iptc import iptc_created_at
from flows.imaging.headers.tiff import read_pages
from flows.imaging.headers.xmp import xmp_taken_at
from flows.imaging.source_file import SourceFile, open_source
from storage.library.manifest import read_manifest
from storage.library.naming.companions import CompanionNames, owner_keys
from storage.library.paths import Library
from storage.lifecycle.job_rows import checked_payload
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.foreign_documents import parse_json
from task_definitions.step_types import known_step_type_names
from task_definitions.validation import read_pinned_definition

_FOLDER = Path(tempfile.mkdtemp(prefix="pj-fuzz-"))
#: Read once, because the search for the step types of installed packages takes longer than to read a definition.
_STEP_TYPES = known_step_type_names()
_DEFINITION = {
    "nightly": {
        "label": "Nightly",
        "scope": "global",
        "schedule": "0 3 * * *",
        "steps": [{"type": "manifest_check", "priority": 95, "on_failure": "continue"}, {"type": "metadata"}],
    }
}


@dataclass(frozen=True)
class Target:
    """A function to be fuzzed, with valid inputs from which the fuzzer begins."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _definitions(data: bytes) -> None:
    file = _FOLDER / ("definitions.json" if data[:1] == b"{" else "definitions.yaml")
    file.write_bytes(data)
    for definition in load_definitions(file, builtin=False, step_types=_STEP_TYPES).values():
        assert read_pinned_definition(definition.to_json()) == definition


def _settings(data: bytes) -> None:
    file = _FOLDER / "photojobs.toml"
    file.write_bytes(data)
    os.environ["PHOTOJOBS_CONFIG"] = str(file)
    Settings.load()


def _manifest(data: bytes) -> None:
    project = Library(_FOLDER).project("tenant", "Iceland")
    project.path.mkdir(parents=True, exist_ok=True)
    project.manifest_path.write_bytes(data)
    assert read_manifest(project).id > 0


def _payload(data: bytes) -> None:
    payload = parse_json(data, source="payload")
    assert checked_payload(payload) == payload


def _takeout_name(data: bytes) -> None:
    old, _, name = data.decode("utf-8", "surrogateescape").replace("/", "_").replace("\0", "_").partition("\n")
    if old and name:
        owner_keys(old)
        for fit in CompanionNames({"jpg", "heic"}).fits(name):
            assert fit.key
            fit.renamed("new", old=old)


@contextmanager
def _opened(data: bytes) -> Iterator[SourceFile]:
    file = _FOLDER / "image"
    file.write_bytes(data or b"\0")
    with open_source(file) as opened:
        yield opened


def _exif(data: bytes) -> None:
    read_exif_block(data)
    with _opened(data) as file:
        for page in read_pages(file.read_at):
            for entry in page.values():
                entry.number()


def _image_metadata(data: bytes) -> None:
    with _opened(data) as file:
        found = read_embedded(file.read_at, size_bytes=file.size_bytes)
    iptc_created_at(found.iptc)
    if found.xmp is not None:
        xmp_taken_at(found.xmp)
    xmp_taken_at(data)


def _tiff() -> bytes:
    texts = b"Make A\0\0" + b"2020:01:01 01:01:01\0"
    entries = [(0x010F, 2, 7, 38), (0x0112, 3, 1, 6)]
    folder = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + folder + b"\0\0\0\0" + texts


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + kind + content


_PACKET = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<rdf:Description xmp:CreateDate="2020-01-02T03:04:05"/></rdf:RDF></x:xmpmeta>"""
_EXIF_SEGMENT = b"\xff\xe1" + struct.pack(">H", len(_tiff()) + 8) + b"Exif\0\0" + _tiff()

TARGETS = {
    "definitions": Target(_definitions, (json.dumps(_DEFINITION).encode(), yaml.safe_dump(_DEFINITION).encode())),
    "settings": Target(
        _settings, (b'concurrency = 4\nlibrary_root = "/srv"\n[schedules]\nmaintenance_global = "off"\n',)
    ),
    "manifest": Target(_manifest, (b"id: 7\nname: Iceland\ncreated_at: 2020-01-02T03:04:05Z\nversion: 1\n",)),
    "payload": Target(_payload, (b'{"photo_ids": [1, 2], "names": {"a": "b", "c": null}, "share": 0.5}',)),
    "takeout_name": Target(
        _takeout_name, (b"IMG_1\nIMG_1.jpg.supplemental-metadata.json", b"IMG_1\nIMG_1.jpg(1).json", b"a\na_01.jpg.xmp")
    ),
    "exif": Target(_exif, (_tiff(), _tiff()[:2][::-1] + _tiff()[2:], b"MM\0*\0\0\0\x08\0\0\0\0\0\0")),
    "image_metadata": Target(
        _image_metadata,
        (
            _tiff(),
            b"\xff\xd8" + _EXIF_SEGMENT + b"\xff\xda\0\2",
            b"\x89PNG\r\n\x1a\n" + struct.pack(">L", len(_tiff())) + b"eXIf" + _tiff() + b"\0\0\0\0",
            _box(b"ftyp", b"crx \0\0\0\1") + _box(b"moov", _box(b"uuid", 16 * b"\1" + _box(b"CMT1", _tiff()))),
            _box(b"JXL ", b"\r\n\x87\n") + _box(b"Exif", b"\0\0\0\0" + _tiff()) + _box(b"xml ", _PACKET),
            b"FOVb" + 28 * b"\0" + b"SECp" + 20 * b"\0",
            b"\0MRM\0\0\0\x40\0TTW\0\0\0\x30" + _tiff(),
            b"II\x1a\0\0\0HEAPCCDR" + 40 * b"\0",
            _PACKET,
        ),
    ),
}
