"""A photograph that the demo draws, before it is drawn; knows nothing of the library that draws it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A photograph to be drawn.

    Attributes:
        path: where it is written; the extension says whether as JPEG or PNG.
        scene_seed: photos with the same seed show the same landscape.
        number: tells the photos of a scene apart: another cutout, another light.
        width: pixels as stored, before anybody turns it upright.
        height: pixels as stored.
        orientation: EXIF, 1 to 8.
        make: EXIF, with the model; None for a picture without any EXIF.
        taken_at: EXIF DateTimeOriginal; None where the camera had no clock.
    """

    path: Path
    scene_seed: int
    number: int
    width: int = 320
    height: int = 240
    orientation: int = 1
    make: str | None = None
    model: str | None = None
    taken_at: datetime | None = None
