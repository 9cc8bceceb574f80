"""Imports without garbage collection."""

from __future__ import annotations

import gc
from contextlib import suppress

from deployments.import_outside_gc import imported_outside_gc


def test_nothing_is_collected_during_imports_and_collection_goes_on_afterwards_even_if_they_fail() -> None:
    frozen = gc.get_freeze_count()
    with suppress(ImportError), imported_outside_gc():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
