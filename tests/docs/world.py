"""Makes the small library on which the snippets of pages run, and copies it for each page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from flows import drain_queue, start_task
from flows.process.runtime import Runtime
from storage import Database, PhotoSelection, Settings, TaskSummary, summarize_task

#: The folder that pages use in examples; it is replaced by a folder in the copy of each page.
ROOTS = ("/srv/", "/home/me/")
#: The folder with the library and the database.
HOME = "srv/photos"


@dataclass(frozen=True)
class World:
    """A folder with the files that a page expects on its reader's machine."""

    root: Path

    @property
    def home(self) -> Path:
        """The reader's working folder, with the library and the database."""
        return self.root / HOME

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that name the database and the library, and the settings of `haste`."""
        return {
            "PHOTOJOBS_DATABASE_URL": f"sqlite:///{self.home}/photojobs.db",
            "PHOTOJOBS_LIBRARY_ROOT": f"{self.home}/library",
            **self.haste,
        }

    @property
    def haste(self) -> dict[str, str]:
        """The settings that make a run short."""
        return {
            "PHOTOJOBS_IMAGE_ISOLATION": "false",
            "PHOTOJOBS_POLL_SECONDS": "0.02",
            "PHOTOJOBS_RETRY_DELAY_SECONDS": "0",
            "PHOTOJOBS_SETTLE_SECONDS": "0",
        }

    def here(self, text: str) -> str:
        """Return the text with the folders of pages replaced by the folders of this world."""
        for root in ROOTS:
            text = text.replace(root, f"{self.root}/srv/")
        return text


def make_photographs(world: World) -> None:
    """Create two folders with photographs, as users of cameras have them."""
    for folder, names in {"alps": ("peak", "lake", "hut"), "sea": ("gull", "lake")}.items():
        target = world.home / "library" / "user_0" / folder
        target.mkdir(parents=True)
        for number, name in enumerate(names):
            image: Any = pyvips.Image.gaussnoise(60, 40, mean=100 + 20 * number, seed=number).cast("uchar")
            image = image.copy()
            image.set_type(pyvips.GValue.gstr_type, "exif-ifd2-DateTimeOriginal", f"2025:07:0{number + 1} 10:00:00")
            image.jpegsave(str(target / f"{name}.jpg"))
    for folder in ("backup", "photojobs/definitions"):
        (world.root / "srv" / folder).mkdir(parents=True)


def make_library(world: World) -> None:
    """Add the photographs as projects to the database, with metadata and derivatives."""
    make_photographs(world)
    with running(world.home) as runtime:
        run_without_prefect(runtime, type="folder_discovery", tenant_id="user_0")
        run_without_prefect(runtime, type="process_photos", tenant_id="user_0", select=PhotoSelection())


def add_photograph(world: World) -> None:
    """Copy a photograph to a name that has no row yet, so that an upkeep has something to do."""
    folder = world.home / "library" / "user_0" / "sea"
    shutil.copyfile(folder / "gull.jpg", folder / "tern.jpg")


def damage(world: World) -> None:
    """Add a photograph that is cut off, and a task that failed on it."""
    (world.home / "library" / "user_0" / "sea" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with running(world.home) as runtime:
        run_without_prefect(runtime, type="maintenance_global", tenant_id="user_0")
        run_without_prefect(runtime, type="process_photos", tenant_id="user_0", select=PhotoSelection())


def run_without_prefect(runtime: Runtime, **arguments: Any) -> TaskSummary:
    """Do the same as `run_task`, but with a worker in this process, because a Prefect server takes seconds to start."""
    with runtime.as_current():
        started = start_task(**arguments)
        drain_queue(runtime=runtime)
    return summarize_task(runtime.database, started.task_id)


@contextmanager
def running(home: Path) -> Iterator[Runtime]:
    """Open a runtime on the database and the library of a world, with the settings of the environment."""
    settings = Settings.load(library_root=home / "library", image_isolation=False, poll_seconds=0.02, settle_seconds=0)
    database = Database(home / "photojobs.db")
    database.migrate()
    with Runtime(database, settings=settings) as runtime:
        yield runtime
    database.close()


def copied(world: World, target: Path) -> World:
    """Return a copy of a world in a new folder."""
    shutil.copytree(world.root, target, dirs_exist_ok=True)
    return World(target)
