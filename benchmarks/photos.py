"""Measures `process_photos` for a library of 50,000 small photographs, in photographs per second and core.

The other side is one core that decodes and encodes the same files with two pyvips pipelines for each file, without rows
and without flushing files to the disk.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command
from benchmarks.photographs import write_photograph
from flows.execution.worker import drain_queue
from flows.imaging.limits import PREVIEW, THUMBNAIL
from flows.imaging.pixels.vips import load_vips, set_threads, threads
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, PhotosRepository, ProjectsRepository, Settings, TasksRepository
from storage.available_cores import available_cores
from task_definitions import load_definitions

#: The number of different pictures. The files of the library are hard links to them.
_PICTURES = 8


def run(options: Options) -> Report:
    """Run the task with a worker, and measure the pyvips loop before and after it."""
    count = options.size(50_000, 100)
    cores = available_cores()
    with temporary_folder() as folder:
        pictures = [folder / f"picture-{number}.jpg" for number in range(_PICTURES)]
        for number, picture in enumerate(pictures):
            write_photograph(picture, 480, 320, seed=number)
        database = Database(folder / "photojobs.db")
        database.migrate()
        project = ProjectsRepository(database).create(project_name="many", project_folder="many", tenant_id="user_0")
        place = folder / "library" / "user_0" / "many"
        place.mkdir(parents=True)
        for number in range(count):
            os.link(pictures[number % _PICTURES], place / f"p{number}.jpg")
        ids = PhotosRepository(database).create_many(
            {"project_id": project.id, "filename": f"p{number}", "jpg_available": 1} for number in range(count)
        )
        settings = Settings.load(library_root=folder / "library", concurrency=cores)
        before = _plain(pictures, count=options.size(400, 16))
        with Runtime(database, settings=settings) as runtime:
            new = new_task(
                load_definitions()["process_photos"],
                task_id="all",
                tenant_id="user_0",
                items=({"photo_id": photo_id} for photo_id in ids),
            )
            TasksRepository(database).start(new)
            began = time.perf_counter()
            drain_queue(runtime=runtime)
            took = time.perf_counter() - began
            assert TasksRepository(database).get("all").status == "completed"
        after = _plain(pictures, count=options.size(400, 16))
        database.close()
    report = Report(
        "photos", notes=[f"{count:,} JPEGs of 480 x 320 pixels, {cores} cores, {count / took:,.0f} photos a second"]
    )
    report.ratios.append(
        Ratio(
            what="process_photos, a core",
            unit="photos/s",
            ours=[count / took / cores],
            others=[(before + after) / 2],
            against="pyvips alone, one core",
        )
    )
    return report


def _plain(pictures: list[Path], *, count: int) -> float:
    pyvips = load_vips()
    usual = threads()
    set_threads(1)
    began = time.perf_counter()
    for number in range(count):
        for rendition in (THUMBNAIL, PREVIEW):
            edge = rendition.long_edge_pixels
            image = pyvips.Image.thumbnail(str(pictures[number % len(pictures)]), edge, height=edge, size="down")
            image.webpsave_buffer(Q=rendition.quality, effort=rendition.effort, keep="none")
    rate = count / (time.perf_counter() - began)
    set_threads(usual)
    return rate


if __name__ == "__main__":
    command(run)
