"""Worlds for the tests of undo: see `tests.planning.worlds`."""

from tests.planning.conftest import contents, make_world

__all__ = ["contents", "make_world"]
