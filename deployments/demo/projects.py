"""The projects of the demo's library as data: tenants, names, dates and cameras."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: The tenants of the demo; the first has enough photos for two chunks of a photo set.
TENANTS = ("anna", "ben")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProject:
    """A project of the demo.

    Attributes:
        folder: the folder's name; it may differ from the project's name.
        share: its share of the library's photos.
        prefix: the beginning of its file names; a number from `first_number` on follows.
        first_shot_at: when its first photo was taken, by the camera's clock.
        has_folder: whether its folder exists.
    """

    tenant_id: str
    name: str
    folder: str
    share: float
    prefix: str
    first_number: int
    make: str
    model: str
    first_shot_at: datetime
    has_folder: bool = True

    def photo_name(self, index: int) -> str:
        """The base name of its photo number `index`, from 0."""
        return f"{self.prefix}{self.first_number + index:04d}"

    def taken_at(self, index: int) -> datetime:
        """When its photo number `index` was taken."""
        return self.first_shot_at + timedelta(minutes=11 * index)

    def count(self, photos: int) -> int:
        """How many of the library's photos it has."""
        return max(4, round(photos * self.share))


ICELAND = DemoProject(
    tenant_id="anna",
    name="Iceland 2023",
    folder="Iceland 2023",
    share=0.34,
    prefix="IMG_",
    first_number=4001,
    make="Canon",
    model="Canon EOS R6",
    first_shot_at=datetime(2023, 6, 3, 8, 12),
)
LOFOTEN = DemoProject(
    tenant_id="anna",
    name="Lofoten in winter",
    folder="Lofoten in winter",
    share=0.26,
    prefix="DSC_",
    first_number=101,
    make="NIKON CORPORATION",
    model="NIKON Z 7",
    first_shot_at=datetime(2024, 2, 17, 9, 30),
)
GARDEN = DemoProject(
    tenant_id="anna",
    name="A year in the garden",
    folder="A year in the garden",
    share=0.21,
    prefix="P105",
    first_number=1,
    make="Panasonic",
    model="DC-G9",
    first_shot_at=datetime(2022, 3, 20, 7, 5),
)
WEDDING = DemoProject(
    tenant_id="anna",
    name="Wedding of Marta and Jonas",
    folder="IMPORT_0412",
    share=0.12,
    prefix="DSCF",
    first_number=2001,
    make="FUJIFILM",
    model="X-T4",
    first_shot_at=datetime(2024, 9, 14, 13, 0),
)
LOST_DRIVE = DemoProject(
    tenant_id="anna",
    name="Lost drive",
    folder="Lost drive",
    share=0.0,
    prefix="SCAN",
    first_number=1,
    make="EPSON",
    model="Perfection V600",
    first_shot_at=datetime(2011, 1, 8, 18, 45),
    has_folder=False,
)
ALPS = DemoProject(
    tenant_id="ben",
    name="Alps traverse",
    folder="Alps traverse",
    share=0.05,
    prefix="_A7M",
    first_number=7001,
    make="SONY",
    model="ILCE-7M4",
    first_shot_at=datetime(2025, 7, 21, 5, 40),
)
STUDIO = DemoProject(
    tenant_id="ben",
    name="Studio",
    folder="Studio",
    share=0.02,
    prefix="studio-",
    first_number=1,
    make="Hasselblad",
    model="X1D II 50C",
    first_shot_at=datetime(2025, 3, 2, 10, 0),
)

PROJECTS = (ICELAND, LOFOTEN, GARDEN, WEDDING, LOST_DRIVE, ALPS, STUDIO)
