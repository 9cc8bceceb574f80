"""Imports without garbage collection."""

from __future__ import annotations

import gc
from contextlib import suppress

from deployments.imported_for_good import imported_for_good


def test_nothing_is_collected_during_imports_and_collection_goes_on_afterwards_even_if_they_fail() -> None:
    frozen = gc.get_freeze_count()
    with suppress(ImportError), imported_for_good():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
