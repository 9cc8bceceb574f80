"""Which of the files that have come is which of the photos whose files are missing: decided without the disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from flows.steps.targets.photo_files import SOURCE_ORDER
from storage.comparison.part_comparison import NewName
from storage.library import ScannedFile
from storage.photos.original_search import KnownOriginal


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A name that no row stands for, with a file that has the contents of one that is missing elsewhere.

    Attributes:
        project_id: the project that it has come to.
        new: the name.
        file: the file.
        candidates: the missing files with the same contents.
    """

    project_id: int
    new: NewName
    file: ScannedFile
    candidates: tuple[KnownOriginal, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Arrivals sorted by what is to become of them.

    Attributes:
        certain: each with the one original that it is.
        unsure: those that may be one of several photos, or of which several may be one photo.
        new: those that are no photo that was moved.
    """

    certain: list[tuple[Arrival, KnownOriginal]] = field(default_factory=list)
    unsure: list[Arrival] = field(default_factory=list)
    new: list[Arrival] = field(default_factory=list)


def source_order(kind: str) -> int:
    """The place of a kind of files in the order in which a photo's picture is taken from them."""
    return [str(known) for known in SOURCE_ORDER].index(kind)


def pair(arrivals: Sequence[Arrival], *, but_for: Collection[int]) -> Pairs:
    """Find out which arrival is which photo.

    A photo with several files goes where the first of them went, in the order in which its picture is taken from them.
    Arrivals and photos of the same contents are told apart by their names, if each has its counterpart.

    Args:
        arrivals: all that have come.
        but_for: the projects whose photos were not moved.
    """
    best: dict[int, int] = {}
    for candidate in (candidate for arrival in arrivals for candidate in arrival.candidates):
        order = source_order(candidate.kind)
        best[candidate.photo_id] = min(best.get(candidate.photo_id, order), order)
    candidates: list[dict[int, KnownOriginal]] = []
    rivals: dict[int, list[Arrival]] = {}
    for arrival in arrivals:
        own = {
            one.photo_id: one
            for one in arrival.candidates
            if source_order(one.kind) == best[one.photo_id] and one.project_id not in but_for
        }
        candidates.append(own)
        for photo_id in own:
            rivals.setdefault(photo_id, []).append(arrival)
    pairs = Pairs()
    for arrival, own in zip(arrivals, candidates, strict=True):
        original = _only(arrival, own, rivals)
        if original is not None:
            pairs.certain.append((arrival, original))
        else:
            (pairs.unsure if own else pairs.new).append(arrival)
    return pairs


def _only(
    arrival: Arrival, own: Mapping[int, KnownOriginal], rivals: Mapping[int, Sequence[Arrival]]
) -> KnownOriginal | None:
    """The one photo that an arrival is, or None."""
    others = [rival for photo_id in own for rival in rivals[photo_id]]
    if len(others) == len(own) == 1:
        return next(iter(own.values()))
    photos = {one.base_name: one for one in own.values()}
    is_matched = photos.keys() == {rival.new.name for rival in others} and len(others) == len(own) ** 2
    return photos.get(arrival.new.name) if is_matched and len(photos) == len(own) else None
