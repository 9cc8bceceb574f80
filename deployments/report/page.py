"""Renders a report as one HTML page without scripts and without content from the network; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deployments.errors import MissingExtra
from deployments.plotting.figure import colors_for
from deployments.report.charts import throughput_chart, timeline, waits_chart
from deployments.report.task_report import TaskReport
from storage.reports.library_figures import LibraryFigures
from task_definitions.wording import lasting, printable, size_in_words

#: The label of each figure of the library, in the order of the page.
FIGURE_NAMES = {
    "projects": "projects",
    "archived_projects": "archived projects",
    "photos": "photographs",
    "with_jpg": "with a JPEG",
    "with_raw": "with a RAW file",
    "with_other": "with another file",
    "pending_deletions": "with a file marked for deletion",
    "thumbnails": "thumbnails",
    "previews": "previews",
    "lacking": "without a thumbnail or preview",
    "derivative_bytes": "size of thumbnails and previews",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One figure of the library before and after the task, as texts."""

    name: str
    before: str
    after: str
    change: str


def render_report(report: TaskReport) -> str:
    """Return the HTML page of a report.

    Raises:
        MissingExtra: the extra `report` is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise MissingExtra(
            "reports need jinja2 and matplotlib, but at least one of them is missing. "
            "`pip install 'photojobs[report]'` installs both."
        ) from None
    environment = Environment(
        loader=PackageLoader("deployments.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"lasting": _lasting, "plain": _plain, "size": size_in_words, "number": _number}
    colors = colors_for([step.type for step in report.summary.steps])
    charts = {
        "timeline": None
        if report.begin is None or not report.spans
        else timeline(report.spans, report.lanes, colors, begin=report.begin, end=report.end),
        "throughput": throughput_chart(report.throughput) if report.spans else None,
        "waits": waits_chart(report.times) if report.times else None,
    }
    return environment.get_template("report.html.jinja").render(
        report=report,
        task=report.summary.task,
        # matplotlib escapes the texts that it draws.
        charts={name: None if svg is None else Markup(svg) for name, svg in charts.items()},  # noqa: S704
        figures=list(_figure_rows(report.library.before, report.library.after)),
        items=report.summary.items,
        jobs=report.summary.jobs,
    )


def _figure_rows(before: LibraryFigures | None, after: LibraryFigures | None) -> Iterator[FigureRow]:
    for field, name in FIGURE_NAMES.items():
        words = size_in_words if field.endswith("_bytes") else _number
        earlier, later = (None if figures is None else int(getattr(figures, field)) for figures in (before, after))
        change = "" if earlier is None or later is None or earlier == later else words(later - earlier)
        yield FigureRow(
            name=name,
            before="" if earlier is None else words(earlier),
            after="" if later is None else words(later),
            change=change if not change or change.startswith("-") else f"+{change}",
        )


def _number(value: int) -> str:
    return f"{value:,}"


def _lasting(seconds: float | None) -> str:
    return "" if seconds is None else lasting(seconds)


def _plain(value: object) -> str:
    return printable(str(value))
