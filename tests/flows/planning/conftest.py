"""Fixtures with random libraries for tests of plans: see `tests.flows.planning.worlds`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import Database
from tests.flows.planning.worlds import NOW, LibrarySpec, World, picture


@pytest.fixture(scope="session")
def contents() -> dict[str, bytes]:
    """The possible contents of files of random photos, by their names."""
    return {
        "picture": picture(),
        "dated": picture(DateTimeOriginal="2024:05:06 07:08:09"),
        "rubbish": b"no picture at all",
        "empty": b"",
    }


@pytest.fixture
def make_world(
    tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path, contents: dict[str, bytes]
) -> Iterator[Callable[..., World]]:
    """A function that creates a random library on SQLite: `make_world(spec, unaccepted_files="trash")`."""
    made: list[World] = []

    def make(spec: LibrarySpec, *, database: Database | None = None, **settings: Any) -> World:
        folder = tmp_path_factory.mktemp("world")
        if database is None:
            shutil.copy(_sqlite_template, folder / "photojobs.db")
            database = Database(folder / "photojobs.db", clock=lambda: NOW)
        world = World(folder, database, contents, **settings)
        made.append(world)
        world.build(spec)
        return world

    yield make
    for world in made:
        world.close()
