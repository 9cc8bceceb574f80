"""The demo's library as data: projects with their tenants, names, dates and cameras, and photographs to draw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

#: The tenants of the demo; the first has enough photos for two chunks of a photo set.
TENANTS = ("anna", "ben")


@dataclass(frozen=True, slots=True)
class DemoProject:
    """A project of the demo.

    Attributes:
        name: the project's name.
        share: the part of the library's photos that the project has, from 0 to 1.
        prefix: the beginning of its file names; a number from `first_number` on follows.
        first_shot_at: when its first photo was taken, by the camera's clock.
        other_folder: the folder's name, if it differs from the project's name.
        has_folder: whether its folder exists.
    """

    tenant_id: str
    name: str
    share: float
    prefix: str
    first_number: int
    make: str
    model: str
    first_shot_at: datetime
    other_folder: str | None = None
    has_folder: bool = True

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.other_folder or self.name

    def photo_name(self, index: int) -> str:
        """Return the base name of photo number `index`; numbers begin with 0."""
        return f"{self.prefix}{self.first_number + index:04d}"

    def taken_at(self, index: int) -> datetime:
        """Return the time at which photo number `index` was taken."""
        return self.first_shot_at + timedelta(minutes=11 * index)

    def count(self, photos: int) -> int:
        """Return how many photos the project gets if the library gets about `photos`; at least 4."""
        return max(4, round(photos * self.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A photograph to be drawn.

    Attributes:
        path: the file to write; its extension decides between JPEG and PNG.
        scene_seed: the seed of the landscape; photos with the same seed show the same landscape.
        number: decides which part of the landscape the photo shows, and in which light.
        width: pixels as stored, before the orientation is applied.
        height: pixels as stored.
        orientation: the EXIF orientation, 1 to 8.
        make: the EXIF make of the camera, written with `model`; None for a picture without any EXIF.
        taken_at: the EXIF DateTimeOriginal; None for a camera without a clock.
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


ICELAND = DemoProject("anna", "Iceland 2023", 0.34, "IMG_", 4001, "Canon", "Canon EOS R6", datetime(2023, 6, 3, 8, 12))
LOFOTEN = DemoProject(
    "anna", "Lofoten in winter", 0.26, "DSC_", 101, "NIKON CORPORATION", "NIKON Z 7", datetime(2024, 2, 17, 9, 30)
)
GARDEN = DemoProject("anna", "A year in the garden", 0.21, "P105", 1, "Panasonic", "DC-G9", datetime(2022, 3, 20, 7, 5))
WEDDING = DemoProject(
    "anna",
    "Wedding of Marta and Jonas",
    0.12,
    "DSCF",
    2001,
    "FUJIFILM",
    "X-T4",
    datetime(2024, 9, 14, 13, 0),
    other_folder="IMPORT_0412",
)
LOST_DRIVE = DemoProject(
    "anna", "Lost drive", 0.0, "SCAN", 1, "EPSON", "Perfection V600", datetime(2011, 1, 8, 18, 45), has_folder=False
)
ALPS = DemoProject("ben", "Alps traverse", 0.05, "_A7M", 7001, "SONY", "ILCE-7M4", datetime(2025, 7, 21, 5, 40))
STUDIO = DemoProject("ben", "Studio", 0.02, "studio-", 1, "Hasselblad", "X1D II 50C", datetime(2025, 3, 2, 10, 0))

PROJECTS = (ICELAND, LOFOTEN, GARDEN, WEDDING, LOST_DRIVE, ALPS, STUDIO)
