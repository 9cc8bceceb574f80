"""The description of a photograph that the demo draws."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A photograph to be drawn.

    Attributes:
        path: the file to write; its extension decides between JPEG and PNG.
        scene_seed: the seed of the landscape; photos with the same seed show the same landscape.
        number: the number of the photo in its scene, which decides which part it shows and in which light.
        width: pixels as stored, before the orientation is applied.
        height: pixels as stored.
        orientation: EXIF, 1 to 8.
        make: EXIF, with the model; None for a picture without any EXIF.
        taken_at: EXIF DateTimeOriginal; None for a camera without a clock.
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
