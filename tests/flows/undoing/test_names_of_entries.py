"""The names by which an undo reports entries of the journal."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from flows.undoing.left_entries import name_of

STAMP = "20251001T120000.000Z_0123456789ab_"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("tenant/Iceland/fox.jpg", "tenant/Iceland/fox.jpg"),
        (f"tenant/Iceland/.trash/{STAMP}fox.jpg", "tenant/Iceland/.trash/fox.jpg"),
        # A file with a long name is in a folder of the trash.
        (f"tenant/Iceland/.trash/{STAMP}/long.jpg", f"tenant/Iceland/.trash/{STAMP}/long.jpg"),
        (f"tenant/Iceland/.trash/{STAMP}", f"tenant/Iceland/.trash/{STAMP}"),
        ("tenant/Iceland/.trash/by hand.jpg", "tenant/Iceland/.trash/by hand.jpg"),
        (f"tenant/Iceland/{STAMP}fox.jpg", f"tenant/Iceland/{STAMP}fox.jpg"),
    ],
)
def test_the_oldest_entry_gives_the_name_without_the_mark_of_the_trash(source: str, name: str) -> None:
    entries: list[Any] = [Mock(source=path) for path in ("tenant/Norway/newer.jpg", source)]
    assert name_of(entries) == name
