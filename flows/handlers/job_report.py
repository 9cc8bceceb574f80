"""What a job did, in numbers and first names: kept in `jobs.result_json` and shown as an artifact."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from storage.errors import InvalidValue

#: Names kept for each kind of change; the counts go on.
MAX_EXAMPLES = 10

#: Items and projects kept with the time that they took, and seconds that it must be: below, nothing is slow.
MAX_SLOWEST = 10
SLOW_SECONDS = 0.5

#: Projects kept with counts of their own; the totals go on.
MAX_PROJECTS = 200

#: Things kept by name that were left as they are.
MAX_LEFT = 1_000


@dataclass(slots=True)
class Report:
    """Counts what a handler did, and remembers the first names of each kind.

    Names are plain past participles: `removed`, `renamed`, `made`, `kept`, `skipped`, `failed`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    projects: dict[str, Counter[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    _project: str | None = None

    @classmethod
    def continued(cls, earlier: Mapping[str, Any]) -> Self:
        """A report that goes on with that of earlier attempts, as `to_json` made it.

        What failed then is left out: it is tried again.
        """

        def mapping(part: Any) -> dict[str, Any]:
            return {name: value for name, value in part.items() if name != "failed"} if isinstance(part, dict) else {}

        def counter(part: Any) -> Counter[str]:
            return Counter({name: value for name, value in mapping(part).items() if isinstance(value, int)})

        return cls(
            counts=counter(earlier.get("counts")),
            examples={name: list(names) for name, names in mapping(earlier.get("examples")).items()},
            projects={name: counter(counts) for name, counts in mapping(earlier.get("projects")).items()},
            left=mapping(earlier.get("left")),
        )

    def count(self, name: str, number: int = 1, *, example: str | None = None) -> None:
        """Count `number` more of what `name` says, with the name of one of them.

        Raises:
            InvalidValue: the number is not a finite one, or a name holds a NUL character; nothing is counted.
        """
        _check_number(number, name)
        name, example = storable(name), None if example is None else storable(example)
        if not number:
            return
        self.counts[name] += number
        if example is not None:
            known = self.examples.setdefault(name, [])
            if len(known) < MAX_EXAMPLES:
                known.append(example)
        if self._project is not None and (self._project in self.projects or len(self.projects) < MAX_PROJECTS):
            self.projects.setdefault(self._project, Counter())[name] += number

    def enter_project(self, name: str | None) -> None:
        """Count what follows for that project too; None leaves it."""
        self._project = None if name is None else storable(name)

    def fail(self, name: str, reason: str) -> None:
        """Note that a project or an item failed, and why; of the reason, what cannot be stored is replaced."""
        name, reason = storable(name), storable(reason.replace("\0", "\N{SYMBOL FOR NULL}"))
        self.count("failed", example=f"{name}: {reason}")
        if len(self.errors) < MAX_PROJECTS:
            self.errors[name] = reason

    def took(self, name: str, seconds: float) -> None:
        """Remember that an item or a project took so long, if it is one of the slowest."""
        name = storable(name)
        if seconds < SLOW_SECONDS or seconds <= self.slowest.get(name, 0.0):
            return
        self.slowest[name] = seconds
        if len(self.slowest) > MAX_SLOWEST:
            del self.slowest[min(self.slowest, key=self.slowest.__getitem__)]

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Remember how long the block takes, if that is long."""
        began_at = time.monotonic()
        try:
            yield
        finally:
            self.took(name, time.monotonic() - began_at)

    def leave(self, name: str, reason: str) -> None:
        """Note what was left as it is, and why, so that it can be told by name; the first reason counts. No failure."""
        if len(self.left) < MAX_LEFT:
            self.left.setdefault(storable(name), storable(reason))

    def to_json(self) -> dict[str, Any]:
        """A JSON object: `counts`, `examples`, `projects`, `errors`, `left` and `slowest`; none of them empty."""
        parts: dict[str, Any] = {
            "counts": dict(self.counts),
            "examples": self.examples,
            "projects": {name: dict(counts) for name, counts in self.projects.items()},
            "errors": self.errors,
            "slowest": [
                {"name": name, "seconds": round(seconds, 3)}
                for name, seconds in sorted(self.slowest.items(), key=lambda slow: slow[1], reverse=True)
            ],
            "left": self.left,
        }
        return {name: part for name, part in parts.items() if part}


def storable(text: str) -> str:
    """`text` with a question mark for each lone surrogate: names on a disk may hold them, and no database stores them.

    Raises:
        InvalidValue: it holds a NUL character, which no name on a disk has.
    """
    if "\0" in text:
        raise InvalidValue("report", f"{text!r:.80} contains a NUL character, which cannot be stored; remove it")
    return text.encode(errors="replace").decode()


def _check_number(number: object, name: str) -> None:
    try:
        # Larger ones than a float are refused as well: no program reads them.
        is_finite = isinstance(number, int | float) and math.isfinite(number)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise InvalidValue("report", f"{name!r:.80} must be a finite number, not {number!r:.80}")
