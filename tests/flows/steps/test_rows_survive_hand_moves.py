"""Photos that a user moves by hand keep their rows, tags and ratings, also if upkeep dies or loses its power.

The long form: `HYPOTHESIS_PROFILE=full python -m pytest
tests/flows/steps/test_rows_survive_hand_moves.py -n 0 --timeout 0`.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from sqlalchemy import select

from flows.process.runtime import Runtime
from storage import Database, PhotosRepository, ProjectsRepository
from storage.database.tables import photo_tags, tags
from storage.library.content_hash import hash_contents
from storage.photos.originals import Original, OriginalsRepository
from storage.settings import Settings
from tests.conftest import ManualClock
from tests.flows.steps.test_nothing_is_lost import Strike, World

TENANT = "ann"
FOLDERS = ("Alps", "Bay", "Sea")
GRACE_SECONDS = 3_600


@dataclass(frozen=True)
class Action:
    """An action of a user, or a run; numbers choose among the projects and photos that exist at that moment."""

    what: Literal["drag", "rename", "copy", "new folder", "merge", "rename folder", "unplug", "plug", "run", "wait"]
    first: int = 0
    second: int = 0
    definition: str = "maintenance_global"
    strikes: tuple[Strike | None, ...] = ()


_strikes = st.lists(
    st.none()
    | st.builds(
        Strike, kind=st.sampled_from(["death", "power cut"]), number=st.integers(0, 60), seed=st.integers(0, 7)
    ),
    max_size=4,
)
_actions = st.one_of(
    st.builds(
        Action,
        what=st.sampled_from(["drag", "drag", "rename", "copy", "new folder", "merge", "rename folder"]),
        first=st.integers(0, 8),
        second=st.integers(0, 8),
    ),
    st.builds(Action, what=st.sampled_from(["unplug", "plug", "wait"]), first=st.integers(0, 8)),
    st.builds(
        Action,
        what=st.just("run"),
        definition=st.sampled_from(["maintenance_global", "maintenance", "folder_discovery"]),
        first=st.integers(0, 8),
        strikes=_strikes.map(tuple),
    ),
)


@dataclass
class HeldPhoto:
    """A photo, and the current places of its files.

    Attributes:
        has_new_copy: whether a copy of the photo may have no row yet.
        is_lost: whether the photo may lose its row.
    """

    id: int
    folder: Path
    name: str
    extensions: tuple[str, ...]
    has_new_copy: bool = False
    is_lost: bool = False

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{self.name}.{extension}" for extension in self.extensions]


@dataclass
class Hands:
    """Changes a library as a user does by hand."""

    world: World
    photos: list[HeldPhoto] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def tenant(self) -> Path:
        return self.world.root / TENANT

    def build(self, specs: list[list[tuple[str, ...]]]) -> None:
        for name, own in zip(FOLDERS, specs, strict=True):
            project = ProjectsRepository(self.world.database).create(
                project_name=name, project_folder=name, tenant_id=TENANT
            )
            folder = self.world.runtime.library.project(TENANT, name)
            folder.create()
            for extensions in own:
                self._add(project.id, folder.path, extensions)
        self.run(Action("run"))

    def _add(self, project_id: int, folder: Path, extensions: tuple[str, ...]) -> None:
        name = f"IMG_{next(self._numbers)}"
        kinds = self.world.runtime.library.accepted_extensions
        described = {extension: kinds.describe(f"{name}.{extension}").kind for extension in extensions}
        flags = {f"{kind}_available": 1 for kind in described.values() if kind.is_photo}
        row = {"project_id": project_id, "filename": name, "meta_json": {"rating": 4}, **flags}
        [photo_id] = PhotosRepository(self.world.database).create_many([row])
        self.photos.append(HeldPhoto(photo_id, folder, name, extensions))
        originals = []
        for extension, kind in described.items():
            path = folder / f"{name}.{extension}"
            self.world.drop(self.world.runtime.library.project(TENANT, folder.name), path.name)
            status = path.lstat()
            if kind.is_photo:
                originals.append(
                    Original(
                        photo_id=photo_id,
                        name=path.name,
                        kind=str(kind),
                        size_bytes=status.st_size,
                        mtime_ns=status.st_mtime_ns,
                        ctime_ns=status.st_ctime_ns,
                        content_hash=hash_contents(path),
                    )
                )
        OriginalsRepository(self.world.database).save_many(originals)
        with self.world.database.begin() as connection:
            tag = tags.insert().values(project_id=project_id, name=f"tag {photo_id}").returning(tags.c.id)
            tag_id = connection.execute(tag).scalar_one()
            connection.execute(photo_tags.insert().values(photo_id=photo_id, tag_id=tag_id))

    def act(self, action: Action) -> None:
        at_hand = [photo for photo in self.photos if photo.folder.parent == self.tenant]
        folders = sorted(path for path in self.tenant.iterdir() if any(path.glob("[!.]*")))
        if action.what == "run":
            self.run(action)
        elif action.what == "wait":
            self.world.clock.advance(seconds=GRACE_SECONDS * (1 + action.first))
        elif action.what == "plug":
            self.plug()
        elif not at_hand:
            return
        elif action.what == "merge":
            self._merge(folders[action.first % len(folders)], folders[action.second % len(folders)])
        elif action.what in ("rename folder", "unplug"):
            self._take_away(folders[action.first % len(folders)], action)
        else:
            self._move(at_hand[action.first % len(at_hand)], folders[action.second % len(folders)], action.what)

    def _move(self, photo: HeldPhoto, target: Path, what: str) -> None:
        number = next(self._numbers)
        name = photo.name if what == "drag" else f"by hand {number}"
        if what == "new folder":
            target = self.tenant / f"New {number}"
            target.mkdir()
        elif what == "rename":
            target = photo.folder
        if any((target / f"{name}.{extension}").exists() for extension in photo.extensions):
            return
        for path in photo.files:
            new = target / (name + path.name[len(photo.name) :])
            if what == "copy":
                shutil.copy2(path, new)
                self.world.expected[path.read_bytes()] += 1
            else:
                path.rename(new)
        if what == "copy":
            photo.has_new_copy = True
            # The photo was moved since the last run, so either file may be the photo.
            photo.is_lost |= self.places().get(photo.id) != (photo.folder.name, photo.name)
        else:
            self._note_move(photo)
            photo.folder, photo.name = target, name

    def _note_move(self, photo: HeldPhoto) -> None:
        # It cannot be known which of the files without a row is the photo.
        photo.is_lost |= photo.has_new_copy

    def _merge(self, source: Path, target: Path) -> None:
        files = [path for path in source.iterdir() if not path.name.startswith(".")]
        if source == target or any((target / path.name).exists() for path in files):
            return
        for path in files:
            path.rename(target / path.name)
        for trashed in (source / ".trash").glob("*"):
            self.world.expected[trashed.read_bytes()] -= 1
        shutil.rmtree(source)
        for photo in self.photos:
            if photo.folder == source:
                self._note_move(photo)
                photo.folder = target

    def _take_away(self, folder: Path, action: Action) -> None:
        new = self.tenant / f"Renamed {next(self._numbers)}"
        if action.what == "unplug":
            new = self.world.away / f"{TENANT}~{folder.name}~{next(self._numbers)}"
        folder.rename(new)
        if action.what == "unplug":
            folder.mkdir()
        for photo in self.photos:
            if photo.folder == folder:
                photo.folder = new

    def plug(self) -> None:
        for folder in self.world.away.iterdir():
            place = self.tenant / folder.name.split("~")[1]
            if place.exists() and not any(place.iterdir()):
                place.rmdir()
            if not place.exists():
                folder.rename(place)
                for photo in self.photos:
                    photo.folder = place if photo.folder == folder else photo.folder

    def run(self, action: Action) -> None:
        places = self.places()
        away = {folder.name.split("~")[1] for folder in self.world.away.iterdir()}
        for photo in self.photos:
            folder = photo.folder.name
            is_away = photo.folder.parent == self.world.away
            place = (folder.split("~")[1] if is_away else folder, photo.name)
            # Photos that were moved to or from a disk that is now unmounted may lose their rows.
            if places.get(photo.id) != place and (is_away or places.get(photo.id, ("", ""))[0] in away):
                photo.is_lost = True
        self.world.start(action.definition, TENANT, action.first, 0)
        self.world.work(100, action.strikes)
        if action.definition == "maintenance_global" and not any(action.strikes):
            for photo in self.photos:
                photo.has_new_copy &= any(self.world.away.iterdir())

    def places(self) -> dict[int, tuple[str, str]]:
        projects = {project.id: project for project in ProjectsRepository(self.world.database).list(tenant_id=TENANT)}
        return {
            photo.id: (project.project_folder, photo.filename)
            for project in projects.values()
            for photo in PhotosRepository(self.world.database).list_by_project(project.id)
        }

    def check(self) -> None:
        places = self.places()
        for photo in self.photos:
            if photo.is_lost:
                event("a photo of which nothing is promised")
                continue
            assert places.get(photo.id) == (photo.folder.name, photo.name)
            row = PhotosRepository(self.world.database).get_by_id(photo.id)
            assert row is not None
            assert row.meta_json["rating"] == 4
            of_photo = select(tags.c.name, tags.c.project_id).join(photo_tags).where(photo_tags.c.photo_id == photo.id)
            with self.world.database.connect() as connection:
                assert connection.execute(of_photo).all() == [(f"tag {photo.id}", row.project_id)]


_photos = st.lists(
    st.sampled_from(
        [("jpg",), ("NEF",), ("jpg", "NEF", "MOV"), ("jpg", "xmp", "jpg.pp3"), ("png", "jpg"), ("jpg", "AAE")]
    ),
    max_size=3,
)


@pytest.mark.slow
def test_a_row_survives_whatever_is_moved_by_hand(tmp_path: Path, sqlite_url: str, jpeg: Any) -> None:
    numbers = itertools.count()
    picture = jpeg()

    @given(
        specs=st.lists(_photos, min_size=3, max_size=3).filter(any),
        actions=st.lists(_actions, min_size=2, max_size=10),
    )
    def a_row_survives(specs: list[list[tuple[str, ...]]], actions: list[Action]) -> None:
        place = tmp_path / str(next(numbers))
        root, away = place / "library", place / "away"
        for folder in (root / TENANT, away):
            folder.mkdir(parents=True)
        shutil.copy(sqlite_url.removeprefix("sqlite:///"), place / "photojobs.db")
        clock = ManualClock()
        settings = Settings.load(
            library_root=root,
            image_isolation=False,
            concurrency=1,
            retry_delay_seconds=0,
            heartbeat_seconds=30,
            stale_seconds=600,
            missing_grace_seconds=GRACE_SECONDS,
        )
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, place)
            database = Database(place / "photojobs.db", clock=clock)
            stack.callback(database.close)
            hands = Hands(World(stack.enter_context(Runtime(database, settings=settings)), clock, away, picture))
            hands.build(specs)
            for action in actions:
                hands.act(action)
            hands.plug()
            for definition in ("folder_discovery", "maintenance_global", "folder_discovery", "maintenance_global"):
                hands.run(Action("run", definition=definition))
            hands.check()

    a_row_survives()
