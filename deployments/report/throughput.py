"""Computes how much was done in each part of a task's time; a job's work is spread evenly over its running time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.reports.task_history import JobSpan

#: The number of equal parts into which the time of a task is divided.
PARTS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How many photos were processed per second in each of `PARTS` equal parts of a task's time.

    If no job has photos, jobs are counted instead.

    Attributes:
        noun: what is counted: `photo` or `job`.
        part_seconds: the length of a part.
        rates: the number per second in each part.
        total: the number in all parts together.
    """

    noun: str
    part_seconds: float
    rates: tuple[float, ...]
    total: int


def throughput_of(spans: Sequence[JobSpan], *, begin: datetime, end: datetime) -> Throughput:
    """Return the throughput of jobs between two moments."""
    counts_items = any(span.items for span in spans)
    part_seconds = max((end - begin).total_seconds(), 0.001) / PARTS
    done = [0.0] * PARTS
    total = 0
    for span in spans:
        number = span.items if counts_items else span.jobs
        total += number
        first = _part(span.started_at, begin, part_seconds)
        last = _part(span.finished_at or end, begin, part_seconds)
        for part in range(first, last + 1):
            done[part] += number / (last + 1 - first)
    return Throughput(
        noun="photo" if counts_items else "job",
        part_seconds=part_seconds,
        rates=tuple(number / part_seconds for number in done),
        total=total,
    )


def _part(moment: datetime, begin: datetime, part_seconds: float) -> int:
    return min(PARTS - 1, max(0, int((moment - begin).total_seconds() / part_seconds)))
