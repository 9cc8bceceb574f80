"""Collects the report of a job: what it changed and left unchanged, as counts with examples.

The report is stored in `jobs.result_json` and shown as an artifact in Prefect. `flows.telemetry.step_markdown` decides
what this artifact shows.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Connection

from flows.errors import named
from flows.process.job_claim import JobClaim
from storage.database.column_types import encode_json
from storage.database.tables import jobs
from storage.errors import InvalidValue
from storage.reports.task_summary import MAX_EXAMPLES
from task_definitions.wording import shown

#: Largest number of slow items and projects that are kept with their durations.
MAX_SLOWEST = 10

#: The duration from which an item or a project is slow.
SLOW_SECONDS = 0.5

#: Largest number of projects that have separate counts. The total counts have no such limit.
MAX_PROJECTS = 200

#: Largest number of unchanged files and photos whose names are kept with the reason.
MAX_LEFT = 1_000


@dataclass(slots=True)
class Report:
    """Counts what a handler did, and keeps the first names of each kind.

    The name of a kind says what happened, such as `removed` or `files moved`. `fail` counts the kind `failed`.
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
        """Return a report that continues `earlier`, the report of earlier attempts that `Job.report` returns.

        Failures of earlier attempts are left out, because this attempt tries the failed items again.
        """

        def without_failures(part: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in part.items() if name != "failed"}

        return cls(
            counts=Counter(without_failures(earlier.get("counts", {}))),
            examples=without_failures(earlier.get("examples", {})),
            projects={name: Counter(without_failures(counts)) for name, counts in earlier.get("projects", {}).items()},
            left=dict(earlier.get("left", {})),
        )

    def count(self, name: str, number: int = 1, *, example: str | None = None) -> None:
        """Add `number` to the count of the kind `name`.

        Args:
            name: the kind, such as `renamed`.
            number: the number to add.
            example: the name of one of the counted objects, such as a file.

        Raises:
            InvalidValue: the number is not finite, or a name has a NUL character; nothing is counted.
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
        """Count everything from now on for this project as well as for the job; None stops this."""
        self._project = None if name is None else storable(name)

    def fail(self, name: str, reason: str) -> None:
        """Count a failed project or item, with the reason. Characters of the reason that cannot be stored are replaced.

        Raises:
            InvalidValue: the name has a NUL character.
        """
        name, reason = storable(name), storable(reason.replace("\0", "\N{SYMBOL FOR NULL}"))
        self.count("failed", example=named(name, reason))
        if len(self.errors) < MAX_PROJECTS:
            self.errors[name] = reason

    def took(self, name: str, seconds: float) -> None:
        """Keep the duration of an item or a project if it is one of the slowest.

        Raises:
            InvalidValue: `seconds` is not a finite number, or the name has a NUL character; nothing is kept.
        """
        _check_number(seconds, name)
        name = storable(name)
        if seconds < SLOW_SECONDS or seconds <= self.slowest.get(name, 0.0):
            return
        self.slowest[name] = seconds
        if len(self.slowest) > MAX_SLOWEST:
            del self.slowest[min(self.slowest, key=self.slowest.__getitem__)]

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Measure the duration of the block, and keep it if the item or project is one of the slowest."""
        began_at = time.monotonic()
        try:
            yield
        finally:
            self.took(name, time.monotonic() - began_at)

    def leave(self, name: str, reason: str) -> None:
        """Keep the name of a file or photo that the job left unchanged, with the first reason; it is not a failure."""
        if len(self.left) < MAX_LEFT:
            self.left.setdefault(storable(name), storable(reason))

    def to_json(self) -> dict[str, Any]:
        """Return the non-empty parts of `counts`, `examples`, `projects`, `errors`, `left` and `slowest`."""
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
    """Return the text with a question mark for each lone surrogate, which names may contain but databases do not store.

    Raises:
        InvalidValue: the text has a NUL character, which no file name has.
    """
    if "\0" in text:
        raise InvalidValue(
            "report", f"{text!r:.80} contains a NUL character, which cannot be stored; correct the handler of the step"
        )
    return text.encode(errors="replace").decode()


def _check_number(number: object, name: str) -> None:
    try:
        # An integer that exceeds the range of floats is refused, because most JSON readers cannot read it.
        is_finite = isinstance(number, int | float) and math.isfinite(number)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise InvalidValue(
            "report",
            f"the number for {name!r:.80} must be finite and in the range of a float, not {shown(number)}; correct the "
            "handler of the step",
        )


def store_report(connection: Connection, report: Report, *, claim: JobClaim) -> None:
    """Write a report to the row of its job. If it cannot be stored, write nothing; the job then fails at its end."""
    result = report.to_json()
    try:
        encode_json(result)
    except InvalidValue:
        return
    claimed = (jobs.c.id == claim.job.id, jobs.c.claim_token == claim.token)
    connection.execute(jobs.update().where(*claimed).values(result_json=result))
