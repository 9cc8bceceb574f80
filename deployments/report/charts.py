"""Draws the charts of a report: jobs over time, throughput, and waiting times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from deployments.plotting.figure import ACCENT, FAILED, QUIET, as_svg, house_style, new_figure, short
from deployments.report.throughput import Throughput
from storage.queue.lanes import lane_of
from storage.records import Lane
from storage.reports.task_history import JobSpan, StepTimes
from task_definitions.wording import lasting, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How many workers have rows of their own; all other workers share rows.
MAX_WORKERS = 12

#: The largest number of rows of bars for a worker; further bars are drawn over others.
MAX_ROWS_OF_WORKER = 8


def timeline(
    spans: Sequence[JobSpan], lanes: Sequence[Lane], colors: Mapping[str, str], *, begin: datetime, end: datetime
) -> str:
    """Draw jobs as bars, grouped by lane and worker.

    Jobs that a worker ran at the same time are in separate rows, at most `MAX_ROWS_OF_WORKER`.
    """
    rows = {group: _packed(members, end) for group, members in sorted(_grouped(spans, lanes).items())}
    count = sum(map(len, rows.values()))
    scale, unit = _time_scale((end - begin).total_seconds())
    with house_style():
        figure, axes = new_figure(height=min(12.0, 1.1 + 0.26 * count + 0.12 * len(rows)))
        at, ticks, labels = 0.0, [], []
        for (_, lane, worker), packed in rows.items():
            ticks.append(at + (len(packed) - 1) / 2)
            labels.append(short(f"{lane} · {worker}"))
            for row in packed:
                for span in row:
                    left = (span.started_at - begin).total_seconds() / scale
                    width = ((span.finished_at or end) - span.started_at).total_seconds() / scale
                    is_failed = span.status == "failed"
                    axes.barh(
                        at,
                        max(width, (end - begin).total_seconds() / scale / 400),
                        left=left,
                        height=0.78,
                        color=colors[span.type],
                        edgecolor=FAILED if is_failed else "none",
                        linewidth=1.6 if is_failed else 0,
                        hatch="////" if is_failed else None,
                        alpha=1.0 if span.finished_at else 0.55,
                    )
                at += 1
            at += 0.5
        axes.set_yticks(ticks, labels)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{unit} since the start")
        axes.set_xlim(0, (end - begin).total_seconds() / scale or 1)
        kinds = list(dict.fromkeys(span.type for span in spans))
        _legend(figure, [(short(kind), colors[kind]) for kind in kinds])
        total = sum(span.jobs for span in spans)
        return as_svg(
            figure,
            title="Jobs over time, by lane and worker",
            description=f"{quantity(total, 'job')} of {quantity(len(kinds), 'kind')} over "
            f"{lasting((end - begin).total_seconds())}. "
            "Failed jobs are hatched. The table of steps below has the numbers.",
            name="timeline",
        )


def throughput_chart(done: Throughput) -> str:
    """Draw how many photos or jobs were processed per second over the task's time."""
    seconds = done.part_seconds * len(done.rates)
    scale, unit = _time_scale(seconds)
    edges = [number * done.part_seconds / scale for number in range(len(done.rates) + 1)]
    with house_style():
        figure, axes = new_figure(height=2.3)
        axes.stairs(done.rates, edges, color=ACCENT, fill=True, alpha=0.85)
        axes.set_xlabel(f"{unit} since the start")
        axes.set_ylabel(f"{done.noun}s a second")
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        return as_svg(
            figure,
            title="Throughput",
            description=f"{quantity(done.total, done.noun)} in {lasting(seconds)}, "
            f"at most {max(done.rates):.3g} a second.",
            name="throughput",
        )


def waits_chart(times: Sequence[StepTimes]) -> str:
    """Draw how long the jobs of each step waited and ran.

    A bar shows the median, a line the 95th percentile, and a dot the longest time.
    """
    with house_style():
        figure, axes = new_figure(height=0.9 + 0.5 * len(times))
        for row, step in enumerate(times):
            for shift, color, median, p95, longest in (
                (-0.18, QUIET, step.wait_median, step.wait_p95, step.wait_longest),
                (0.18, ACCENT, step.run_median, step.run_p95, step.run_longest),
            ):
                axes.barh(row + shift, median, height=0.3, color=color)
                axes.hlines(row + shift, median, p95, color=color, linewidth=1.5)
                axes.plot([longest], [row + shift], "o", color=color, markersize=4, clip_on=False)
        axes.set_yticks(range(len(times)), [short(step.type) for step in times])
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        _legend(figure, [("waited", QUIET), ("ran", ACCENT)])
        return as_svg(
            figure,
            title="How long jobs waited and ran",
            description="; ".join(
                f"{step.type}: median wait {lasting(step.wait_median)}, median run {lasting(step.run_median)}"
                for step in times
            ),
            name="waits",
        )


def _legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=label) for label, color in entries]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.2, columnspacing=1.4)


def _grouped(spans: Sequence[JobSpan], lanes: Sequence[Lane]) -> dict[tuple[int, str, str], list[JobSpan]]:
    """Return the spans by the place of their lane, the name of the lane, and the worker."""
    busy = Counter[str]()
    for span in spans:
        busy[span.worker_id] += span.jobs
    named = {worker for worker, _ in busy.most_common(MAX_WORKERS)}
    groups: dict[tuple[int, str, str], list[JobSpan]] = {}
    for span in spans:
        worker = span.worker_id or "unknown"
        if span.worker_id not in named:
            worker = quantity(len(busy) - len(named), "other")
        lane = lane_of(span.priority, lanes)
        place = (len(lanes), "no lane") if lane is None else (lanes.index(lane), lane.name)
        groups.setdefault((*place, worker), []).append(span)
    return groups


def _packed(spans: Sequence[JobSpan], end: datetime) -> list[list[JobSpan]]:
    """Distribute spans over rows so that they do not overlap, unless that needs more than `MAX_ROWS_OF_WORKER` rows."""
    rows: list[list[JobSpan]] = []
    for span in sorted(spans, key=lambda one: one.started_at):
        free = next((row for row in rows if (row[-1].finished_at or end) <= span.started_at), None)
        if free is None and len(rows) >= MAX_ROWS_OF_WORKER:
            free = min(rows, key=lambda row: row[-1].finished_at or end)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows


def _time_scale(seconds: float) -> tuple[float, str]:
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")
