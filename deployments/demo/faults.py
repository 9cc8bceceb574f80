"""Creates the faults of the demo's library, such as broken files, files without a row, and rows without a file.

Each fault is created on disk, or as a row that the caller writes. The argument `faults` counts the faults by the names
that the demo prints.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from deployments.demo.projects import ALPS, GARDEN, ICELAND, LOFOTEN, LOST_DRIVE, STUDIO, WEDDING, DemoProject, Shot
from storage.database.clock import format_timestamp
from storage.library.manifest import Manifest, write_manifest
from storage.library.paths import ProjectFolder
from storage.library.trash import move_to_trash
from storage.records import Project

#: The names of the broken files. Each name says what is wrong with the file.
BROKEN = ("cut_off_halfway", "garbled_after_the_header", "text_named_like_a_photo", "empty_file")

#: How many photos of the project Lofoten have the same name as a photo of the project Iceland.
DUPLICATES = 5

#: How many photos in the folder of the project Iceland have no row.
NEW_FILES = 12

#: The number of rows without a file in the project about a garden.
MISSING_FILES = 5

#: How many rows the project without a folder has.
LOST_ROWS = 8

#: The number of thumbnails that `spoil_derivatives` deletes, and of previews that it empties.
SPOILED = 6


def further_shots(folders: Mapping[DemoProject, ProjectFolder], faults: Counter[str]) -> tuple[list[Shot], list[Shot]]:
    """Return two lists of additional photos: those with a row, whose names exist twice, and those without a row."""
    duplicates = [
        Shot(
            path=folders[LOFOTEN].original(f"{ICELAND.photo_name(index)}.jpg"),
            scene_seed=4242,
            number=index,
            make=LOFOTEN.make,
            model=LOFOTEN.model,
            taken_at=LOFOTEN.taken_at(900 + index),
        )
        for index in range(DUPLICATES)
    ]
    faults["names that exist in two projects of a tenant"] += len(duplicates)
    unknown = [
        Shot(
            path=folders[ICELAND].original(f"IMG_9{index:03d}.jpg"),
            scene_seed=777,
            number=index,
            orientation=index % 8 + 1,
            make="Apple",
            model="iPhone 13",
            taken_at=ICELAND.taken_at(5000 + index),
        )
        for index in range(NEW_FILES)
    ]
    unknown += [
        Shot(path=folders[STUDIO].original(f"screenshot {index}.png"), scene_seed=778, number=index)
        for index in range(1, 4)
    ]
    faults["files without a row"] += len(unknown)
    return duplicates, unknown


def write_broken_files(project: DemoProject, folder: ProjectFolder, faults: Counter[str]) -> list[str]:
    """Write files that have the names of JPEGs but no valid content; return their base names."""
    whole = folder.original(f"{project.photo_name(0)}.jpg").read_bytes()
    contents = {
        "cut_off_halfway": whole[: len(whole) * 2 // 5],
        "garbled_after_the_header": whole[:24] + random.Random(1).randbytes(4_000),  # noqa: S311 - noise, not a secret.
        "text_named_like_a_photo": b"Dear diary, today I renamed a letter to .jpg.\n" * 20,
        "empty_file": b"",
    }
    for name in BROKEN:
        folder.original(f"{name}.jpg").write_bytes(contents[name])
    faults["corrupt, cut-off and empty files"] += len(BROKEN)
    return list(BROKEN)


def write_bystanders(folders: Mapping[DemoProject, ProjectFolder], faults: Counter[str]) -> None:
    """Write files that are common in photo folders, but are not photos: sidecars, a film, a note."""
    sidecars = [folders[ICELAND].original(f"{ICELAND.photo_name(10 + index)}.xmp") for index in range(3)]
    for sidecar in sidecars:
        sidecar.write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/"/>\n', encoding="utf-8")
    folders[LOFOTEN].original("northern lights.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(4_000))
    folders[LOFOTEN].original("notes.txt").write_text("Tripod, spare battery, gloves.\n", encoding="utf-8")
    faults["files that are not photos (to be kept)"] += len(sidecars) + 2


def fill_trash(folders: Mapping[DemoProject, ProjectFolder], faults: Counter[str], *, now: datetime) -> None:
    """Put files into the trash: some are three days old, some are an hour old."""
    for project, old, fresh in ((ICELAND, 3, 2), (ALPS, 1, 0)):
        folder = folders[project]
        picture = folder.original(f"{project.photo_name(0)}.jpg").read_bytes()
        for index in range(old + fresh):
            file = folder.original(f"thrown away {index + 1}.jpg")
            file.write_bytes(picture)
            age = timedelta(days=3) if index < old else timedelta(hours=1)
            move_to_trash(folder, file, at=now - age)
        faults["old files in the trash"] += old
        faults["fresh files in the trash (to be kept)"] += fresh


def rows_without_files(project_ids: Mapping[DemoProject, int], faults: Counter[str]) -> list[dict[str, Any]]:
    """Return rows of photos whose files do not exist."""
    missing = [(GARDEN, f"P106{index:04d}") for index in range(MISSING_FILES)]
    lost = [(LOST_DRIVE, LOST_DRIVE.photo_name(index)) for index in range(LOST_ROWS)]
    faults["rows whose file is missing"] += len(missing)
    faults["projects whose folder is missing"] += 1
    return [
        {"project_id": project_ids[project], "filename": name, "ext": "jpg", "jpg_available": 1}
        for project, name in missing + lost
    ]


def spoil_derivatives(folder: ProjectFolder) -> int:
    """Delete some thumbnails of a project, and empty some of its previews; return how many files were changed."""
    thumbnails, previews = sorted(folder.thumb.iterdir())[:SPOILED], sorted(folder.preview.iterdir())[-SPOILED:]
    for path in thumbnails:
        path.unlink()
    for path in previews:
        path.write_bytes(b"")
    return len(thumbnails) + len(previews)


def write_manifests(
    folders: Mapping[DemoProject, ProjectFolder],
    rows: Mapping[DemoProject, Project],
    faults: Counter[str],
    *,
    now: datetime,
) -> None:
    """Write the manifests of the projects: the garden gets none, and the manifest of the Alps gets a wrong name."""
    for project, folder in folders.items():
        if project is not GARDEN:
            name = "Alps" if project is ALPS else project.name
            created_at = format_timestamp(rows[project].created_at)
            write_manifest(folder, Manifest(name=name, id=rows[project].id, created_at=created_at), at=now)
    faults["missing and wrong manifests"] += 2
    faults["folders whose name differs from their project's name"] += int(WEDDING.folder != WEDDING.name)
