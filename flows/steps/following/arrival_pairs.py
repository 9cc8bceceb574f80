"""Decides which new file ("arrival") is which photo, if several files or photos have the same contents.

`flows.steps.following.arrivals` finds the candidates by size and contents, and decides what becomes of other files.
This module does not read the disk.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from storage.comparison.part_comparison import NewName
from storage.library.naming.kinds import SOURCE_ORDER
from storage.library.scan import ScannedFile
from storage.photos.original_search import KnownOriginal


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A file whose name has no row, and which has the contents of a missing file of a photo.

    Attributes:
        project_id: the project in whose folder the file is.
        new: the name without a row.
        file: the file.
        candidates: the missing files with the same contents.
    """

    project_id: int
    new: NewName
    file: ScannedFile
    candidates: tuple[KnownOriginal, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The result of `pair`.

    Attributes:
        certain: arrivals, each with the missing file that it matches without doubt.
        unsure: arrivals that match several photos, or that share their photo with another arrival.
        new: arrivals that match no photo.
    """

    certain: list[tuple[Arrival, KnownOriginal]] = field(default_factory=list)
    unsure: list[Arrival] = field(default_factory=list)
    new: list[Arrival] = field(default_factory=list)


def source_order(kind: str) -> int:
    """Return the rank of a kind of file as the source of a photo's picture; 0 is the preferred source."""
    return [str(known) for known in SOURCE_ORDER].index(kind)


def pair(arrivals: Sequence[Arrival], *, but_for: Collection[int]) -> Pairs:
    """Match arrivals with photos.

    A photo with several files is matched by the file that is the preferred source of its picture. If several arrivals
    and several photos have the same contents, and each arrival has the name of one of the photos, they are matched by
    name. Photos of the projects `but_for` are not matched.
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
    """Return the missing file that an arrival matches without doubt; None if there is doubt."""
    others = [rival for photo_id in own for rival in rivals[photo_id]]
    if len(others) == len(own) == 1:
        return next(iter(own.values()))
    # Copies are matched by name, if there are as many arrivals as photos, and each arrival could be any of the photos.
    photos = {one.base_name: one for one in own.values()}
    is_matched = photos.keys() == {rival.new.name for rival in others} and len(others) == len(own) ** 2
    return photos.get(arrival.new.name) if is_matched and len(photos) == len(own) else None
