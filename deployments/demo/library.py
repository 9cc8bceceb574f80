"""Creates the demo's library: projects of two tenants with photos and their rows, and faults for upkeep to repair.

Tests and benchmarks use this module too. It needs a folder and a migrated database, but neither Prefect nor the
command.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from deployments.demo.faults import (
    fill_trash,
    further_shots,
    rows_without_files,
    write_broken_files,
    write_bystanders,
    write_manifests,
)
from deployments.demo.projects import ALPS, GARDEN, ICELAND, LOFOTEN, PROJECTS, STUDIO, TENANTS, DemoProject, Shot
from storage.available_cores import available_cores
from storage.database.engine import Database
from storage.database.tables import photo_tags, tags
from storage.library.paths import Library, ProjectFolder
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository

#: The default number of JPEGs. It gives one tenant more photos than one job can have items.
DEFAULT_PHOTOS = 2_300

#: The number of photos of 6000 by 4000 pixels.
DEFAULT_LARGE_PHOTOS = 4

#: How many consecutive photos show the same landscape.
SHOTS_PER_SCENE = 25

#: How many photos a process draws in one batch. Each batch draws the landscapes of its photos again.
BATCH_SIZE = 50

#: One in this many photos of the project Iceland has the tag `best`.
TAGGED_EVERY = 20

#: The number of photos of the project Alps that are marked for deletion.
MARKED_FOR_REMOVAL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLibrary:
    """A description of the created library.

    Attributes:
        root: the library's root, which contains `<tenant>/<project_folder>/`.
        project_ids: the ids of the projects by their names.
        jpegs: the number of JPEG files that can be decoded.
        pngs: the number of PNG files.
        faults: the number of faults of each kind, by name.
    """

    root: Path
    tenant_ids: tuple[str, ...]
    project_ids: dict[str, int]
    jpegs: int
    pngs: int
    faults: dict[str, int]


def make_library(
    root: Path,
    database: Database,
    *,
    photos: int = DEFAULT_PHOTOS,
    large_photos: int = DEFAULT_LARGE_PHOTOS,
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoLibrary:
    """Create the library in a folder that does not exist yet, and the rows of its photos in a migrated database.

    The same arguments make the same pictures. The rows are written in one transaction after all photos.

    Args:
        root: the library's root; its parent must exist.
        database: the database for the rows of projects, photos and tags.
        photos: the approximate number of JPEGs; the faults add a few more.
        large_photos: the number of photos with 24 megapixels.
        on_progress: called with the number of photos drawn so far, and the number of all photos.

    Raises:
        FileExistsError: the folder exists already; nothing was changed.
    """
    root.mkdir()
    library, faults, now = Library(root), Counter[str](), database.clock()
    folders = {
        project: library.project(project.tenant_id, project.folder) for project in PROJECTS if project.has_folder
    }
    for folder in folders.values():
        folder.create()
    shots = {project: _shots_of(project, folder, photos, large_photos) for project, folder in folders.items()}
    duplicates, unknown = further_shots(folders, faults)
    shots[LOFOTEN] += duplicates
    every = [shot for group in shots.values() for shot in group] + unknown
    _draw(every, on_progress)
    broken = {project: write_broken_files(project, folders[project], faults) for project in (GARDEN, STUDIO)}
    write_bystanders(folders, faults)
    fill_trash(folders, faults, now=now)
    with database.begin() as connection:
        rows = {
            project: ProjectsRepository(connection).create(
                project_name=project.name, project_folder=project.folder, tenant_id=project.tenant_id
            )
            for project in PROJECTS
        }
        project_ids = {project: row.id for project, row in rows.items()}
        _write_rows(connection, shots, broken, project_ids, faults)
    write_manifests(folders, rows, faults, now=now)
    pngs = sum(shot.path.suffix == ".png" for shot in every)
    return DemoLibrary(
        root=root,
        tenant_ids=TENANTS,
        project_ids={project.name: project_id for project, project_id in project_ids.items()},
        jpegs=len(every) - pngs,
        pngs=pngs,
        faults=dict(faults),
    )


def _shots_of(project: DemoProject, folder: ProjectFolder, photos: int, large_photos: int) -> list[Shot]:
    start = 1_000 * PROJECTS.index(project)
    shots = [
        Shot(
            path=folder.original(f"{project.photo_name(index)}.jpg"),
            scene_seed=start + index // SHOTS_PER_SCENE,
            number=index,
            orientation=index % 8 + 1 if index % 3 == 0 else 1,
            make=project.make,
            model=project.model,
            # Some pictures have no time, as if their camera had no clock.
            taken_at=None if index % 50 == 49 else project.taken_at(index),
        )
        for index in range(project.count(photos))
    ]
    if project in (GARDEN, STUDIO):
        shots += [
            Shot(path=folder.original(f"drawing {index:02d}.png"), scene_seed=start + 900, number=index)
            for index in range(1, 9)
        ]
    if project is STUDIO:
        shots += [
            Shot(
                path=folder.original(f"large-{index + 1}.jpg"),
                scene_seed=start + 950 + index,
                number=index,
                width=6000,
                height=4000,
                orientation=(1, 6, 3, 8)[index % 4],
                make=project.make,
                model=project.model,
                taken_at=project.taken_at(500 + index),
            )
            for index in range(large_photos)
        ]
    return shots


def _draw(shots: Sequence[Shot], on_progress: Callable[[int, int], None] | None) -> None:
    # The import is here and not at the top, because help pages do not need an image library.
    from deployments.demo.scenes import draw_shots

    # The processes are spawned: a forked process lacks our threads, but the locks that the threads held stay locked.
    pool = ProcessPoolExecutor(max_workers=min(available_cores(), 8), mp_context=multiprocessing.get_context("spawn"))
    try:
        with _children_ignore_interrupts():
            running = {pool.submit(draw_shots, batch): len(batch) for batch in _batches(shots)}
        done = 0
        for future in as_completed(running):
            future.result()
            done += running[future]
            if on_progress is not None:
                on_progress(done, len(shots))
    finally:
        pool.shutdown(cancel_futures=True)
    for shot in shots:
        if shot.taken_at is not None:
            seconds = shot.taken_at.timestamp()
            os.utime(shot.path, (seconds, seconds))


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    # Ctrl-C reaches every process of the terminal, and each would print a traceback. A new process ignores the signals
    # that its parent ignores when the process starts.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _batches(shots: Sequence[Shot]) -> Iterator[list[Shot]]:
    large = [shot for shot in shots if shot.width > 1_000]
    small = [shot for shot in shots if shot.width <= 1_000]
    # Large photos come first, each in a batch of its own. Drawn last, they would keep one process busy after all others
    # have finished.
    yield from ([shot] for shot in large)
    for start in range(0, len(small), BATCH_SIZE):
        yield small[start : start + BATCH_SIZE]


def _write_rows(
    connection: Connection,
    shots: dict[DemoProject, list[Shot]],
    broken: dict[DemoProject, list[str]],
    project_ids: dict[DemoProject, int],
    faults: Counter[str],
) -> None:
    photos = PhotosRepository(connection)
    for project, group in shots.items():
        rows = [_row(project_ids[project], shot.path) for shot in group]
        if project is ALPS:
            for row in rows[:MARKED_FOR_REMOVAL]:
                row["keep_jpg"] = 0
        ids = photos.create_many(
            [{"thumbnail_status": None, "preview_status": None, "keep_jpg": 1} | row for row in rows]
        )
        if project is ICELAND:
            _tag(connection, project_ids[project], "best", ids[::TAGGED_EVERY])
        photos.create_many(
            {"project_id": project_ids[project], "filename": name, "ext": "jpg", "jpg_available": 1}
            for name in broken.get(project, ())
        )
    photos.create_many(rows_without_files(project_ids, faults))


def _row(project_id: int, path: Path) -> dict[str, Any]:
    is_jpg = path.suffix == ".jpg"
    return {
        "project_id": project_id,
        "filename": path.stem,
        "ext": path.suffix[1:],
        "jpg_available": int(is_jpg),
        "other_available": int(not is_jpg),
    }


def _tag(connection: Connection, project_id: int, name: str, photo_ids: Sequence[int]) -> None:
    statement = insert(tags).values(project_id=project_id, name=name).returning(tags.c.id)
    tag_id = connection.execute(statement).scalar_one()
    connection.execute(insert(photo_tags), [{"photo_id": photo_id, "tag_id": tag_id} for photo_id in photo_ids])
