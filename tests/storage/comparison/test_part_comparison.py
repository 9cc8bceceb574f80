"""A project that is compared in parts gives the same result as one that is compared in memory, for all names."""

from __future__ import annotations

import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.comparison import name_parts
from storage.comparison.name_parts import NamePart, NameParts, PhotoFlags
from storage.comparison.part_comparison import PartComparison
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, FileKind
from storage.library.naming.names import name_key
from storage.library.scan import ScannedFile

_BASES = ("fox", "Fox", "FOX", "caf\u00e9", "cafe\u0301", "owl", "jpg", "a.b")
_EXTENSIONS = ("jpg", "JPEG", "Jpg", "nef", "DNG", "tif", "png", "xmp", "jpg.xmp", "mov", "")

_names = st.builds(
    lambda base, extension: f"{base}.{extension}" if extension else base,
    st.sampled_from(_BASES),
    st.sampled_from(_EXTENSIONS),
)
_flag = st.integers(0, 1)
_rows = st.lists(st.tuples(st.sampled_from(_BASES), _flag, _flag, _flag), max_size=8).map(
    lambda rows: [(number, *row) for number, row in enumerate(rows, 1)]
)


def scanned(name: str, problem: Any = None) -> ScannedFile:
    described = DEFAULT_EXTENSIONS.describe(name)
    return ScannedFile(name, described.base_name, described.extension, described.kind, 1, 1, problem)


def expected(rows: Iterable[PhotoFlags], names: set[str], odd: set[str]) -> tuple[Any, ...]:
    """Return the same result by a simple algorithm: search all rows for each file."""
    rows = list(rows)
    files = [
        (described, name in odd)
        for name in sorted(names | odd)
        if (described := DEFAULT_EXTENSIONS.describe(name)).kind is not FileKind.UNACCEPTED
    ]
    bases = {described.base_name for described, _ in files}
    owners: dict[str, list[int]] = {}
    for base in bases:
        exact = [row[0] for row in rows if row[1] == base]
        alike = [(row[1] in bases, row[0]) for row in rows if name_key(row[1]) == name_key(base)]
        owners[base] = exact or [min(alike)[1]] if alike else []
    differing = []
    without = []
    for photo_id, filename, *flags in rows:
        mine = [(file, is_odd) for file, is_odd in files if photo_id in owners[file.base_name]]
        wanted = []
        for kind, flag in zip(("jpg", "raw", "other"), flags, strict=True):
            states = {is_odd for file, is_odd in mine if file.kind == kind}
            wanted.append(1 if False in states else flag if states else 0)
        if wanted != flags:
            differing.append((photo_id, filename, *wanted))
        if not any(flags) and not any(file.kind.is_photo for file, _ in mine):
            without.append(photo_id)
    new = {}
    for key in {name_key(base) for base in bases if not owners[base]}:
        group = [(file, is_odd) for file, is_odd in files if name_key(file.base_name) == key]
        kinds = {
            kind: min((file.extension for file, is_odd in group if file.kind == kind and not is_odd), default=None)
            for kind in ("jpg", "raw", "other")
        }
        if any(kinds.values()):
            flags_found = tuple(int(extension is not None) for extension in kinds.values())
            name = min(file.base_name for file, is_odd in group if file.kind.is_photo and not is_odd)
            new[name] = (*flags_found, next(extension for extension in kinds.values() if extension))
    return sorted(differing), without, new


def found(parts: NameParts) -> tuple[Any, ...]:
    def compared() -> Iterable[PartComparison]:
        return (PartComparison(part, extensions=DEFAULT_EXTENSIONS, look=scanned) for part in parts)

    differing = [change for one in compared() for change in one.differing_availability()]
    without = [photo.photo_id for one in compared() for photo in one.photos_without_file()]
    new = [name for one in compared() for name in one.new_names()]
    assert len({one.name for one in new}) == len(new)
    return (
        sorted((change.photo_id, change.filename, *change.flags) for change in differing),
        sorted(without),
        {one.name: (one.jpg, one.raw, one.other, one.extension) for one in new},
    )


@pytest.mark.parametrize("max_in_memory", [0, 1_000], ids=["in parts", "in memory"])
@given(rows=_rows, names=st.sets(_names, max_size=12), odd=st.sets(_names, max_size=3))
def test_any_names_and_rows_are_compared_as_by_looking_through_all_of_them(
    max_in_memory: int, rows: list[PhotoFlags], names: set[str], odd: set[str]
) -> None:
    names -= odd
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_parts, "MAX_IN_MEMORY", max_in_memory)
        patch.setattr(name_parts, "_BLOCK_SIZE", 2)
        parts = NameParts(lambda name: DEFAULT_EXTENSIONS.describe(name).base_name)
        for row in rows:
            parts.add(NamePart(rows=[row]))
        parts.add(NamePart(names=sorted(names)))
        parts.add(NamePart(odd_names=sorted(odd)))

        assert found(parts) == expected(rows, names, odd)

        parts.close()


@pytest.mark.parametrize(
    ("look", "changes"),
    [(lambda name: None, []), (lambda name: scanned(name, "unreadable"), []), (scanned, [1])],
    ids=["vanished", "unreadable", "there"],
)
def test_a_file_is_looked_at_before_its_row_says_that_it_is_there(
    look: Callable[[str], ScannedFile | None], changes: list[int]
) -> None:
    part = NamePart(rows=[(1, "fox", 0, 0, 0)], names=["fox.jpg"])

    comparison = PartComparison(part, extensions=DEFAULT_EXTENSIONS, look=look)

    assert [change.photo_id for change in comparison.differing_availability()] == changes


def test_what_agrees_is_not_looked_at() -> None:
    rows = [(number, f"p{number}", 1, 0, 0) for number in range(9)]
    looked: list[str] = []
    part = NamePart(rows=rows, names=[f"p{number}.jpg" for number in range(9)])

    comparison = PartComparison(part, extensions=DEFAULT_EXTENSIONS, look=lambda name: looked.append(name))

    assert (comparison.differing_availability(), comparison.new_names(), looked) == ([], [], [])


def test_spellings_of_one_name_lie_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_parts, "MAX_IN_MEMORY", 0)
    parts = NameParts(lambda name: DEFAULT_EXTENSIONS.describe(name).base_name)
    for number in range(50):
        name = f"Café {number}"
        parts.add(NamePart(rows=[(number, name.upper(), 1, 0, 0)], names=[f"{unicodedata.normalize('NFD', name)}.jpg"]))

    used = [part for part in parts if len(part)]

    assert len(used) > 10
    for part in used:
        assert {name_key(row[1]) for row in part.rows} == {name_key(name.removesuffix(".jpg")) for name in part.names}
    parts.close()


def test_a_project_in_parts_takes_a_small_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_parts, "_BLOCK_SIZE", 50)

    def peak_bytes(count: int, *, max_in_memory: int) -> int:
        monkeypatch.setattr(name_parts, "MAX_IN_MEMORY", max_in_memory)
        tracemalloc.start()
        try:
            parts = NameParts(lambda name: name.removesuffix(".jpg"))
            for start in range(0, count, 500):
                numbers = range(start, start + 500)
                parts.add(NamePart(rows=[(n, f"p{n}", 1, 0, 0) for n in numbers], names=[f"p{n}.jpg" for n in numbers]))
            for part in parts:
                found = PartComparison(part, extensions=DEFAULT_EXTENSIONS, look=scanned)
                assert (found.differing_availability(), found.new_names()) == ([], [])
            parts.close()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(40_000, max_in_memory=1_000) < 0.15 * peak_bytes(40_000, max_in_memory=1_000_000)
