"""Reads the date of an XMP packet, from an image file or from its sidecar.

`flows.imaging.metadata` decides which of the dates counts.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final
from xml.parsers import expat

from flows.imaging.errors import UnreadableImage
from flows.imaging.headers.exif import MAX_XMP_BYTES
from flows.imaging.headers.moments import first_believable, moment_text
from flows.imaging.source_file import open_source

# The date properties in the order of preference, as for EXIF: taken, created, digitized.
_DATES: Final = (
    "http://ns.adobe.com/exif/1.0/ DateTimeOriginal",
    "http://ns.adobe.com/photoshop/1.0/ DateCreated",
    "http://ns.adobe.com/xap/1.0/ CreateDate",
)
_MAX_DEPTH: Final = 64


class _Refused(Exception):
    """The packet has a document type, or elements that are nested too deeply. A valid packet has neither."""


def xmp_taken_at(packet: bytes) -> str | None:
    """Return the date on which the picture was taken, as ISO 8601 text; None if the packet has none or is broken."""
    values = _wanted_values(packet)
    return first_believable(moment_text(values[name].strip()) for name in _DATES if name in values)


def sidecar_taken_at(original: Path) -> str | None:
    """Return the date in the XMP sidecar of an original, such as `IMG_1.xmp`.

    The name of a sidecar may contain the extension of the original, as in `IMG_1.CR3.xmp`. None if no sidecar
    exists, or none has a date.
    """
    for name in (f"{original.name}.xmp", f"{original.stem}.xmp", f"{original.name}.XMP", f"{original.stem}.XMP"):
        try:
            with open_source(original.with_name(name)) as file:
                taken_at = xmp_taken_at(file.read_at(0, MAX_XMP_BYTES))
        except UnreadableImage:
            continue
        if taken_at is not None:
            return taken_at
    return None


def _wanted_values(packet: bytes) -> dict[str, str]:
    """Return the date properties of a packet, which programs write as attributes or as elements."""
    values: dict[str, str] = {}
    open_elements: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        open_elements.append(name)
        if len(open_elements) > _MAX_DEPTH:
            raise _Refused
        for attribute, value in attributes.items():
            if attribute in _DATES:
                values.setdefault(attribute, value)

    def text(data: str) -> None:
        name = next((name for name in reversed(open_elements) if name in _DATES), None)
        if name is not None and len(values.get(name, "")) < 100:
            values[name] = values.get(name, "") + data

    def refuse(*_: object) -> None:
        raise _Refused

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = text
    # A document type is refused, because only a document type can declare entities, which a packet does not need.
    parser.StartDoctypeDeclHandler = refuse
    with suppress(expat.ExpatError, _Refused, ValueError, LookupError):
        parser.Parse(packet.strip(b"\0 \t\r\n"), True)
    return values
