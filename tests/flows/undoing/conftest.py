"""Fixtures with random libraries for tests of undo: see `tests.flows.planning.worlds`."""

from tests.flows.planning.conftest import contents, make_world

__all__ = ["contents", "make_world"]
