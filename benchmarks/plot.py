"""Plots the ratios of a benchmark as SVG, in the style of the reports."""

from __future__ import annotations

from benchmarks.measure import Report
from deployments.plotting.figure import ACCENT, FAILED, INK, QUIET, as_svg, house_style, new_figure, short, standalone


def plot_report(report: Report) -> str:
    """Return an SVG with a row for each ratio: a dot for each round, a line at the median, a triangle at the bound."""
    with house_style():
        figure, axes = new_figure(height=1.3 + 0.55 * len(report.ratios))
        for row, ratio in enumerate(report.ratios):
            color = FAILED if ratio.is_met is False else ACCENT
            axes.plot(ratio.ratios, [row] * len(ratio.ratios), "o", color=color, alpha=0.45, markersize=6)
            axes.plot([ratio.median] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2.5)
            if ratio.target is not None:
                axes.plot([ratio.target], [row], marker=">" if ratio.at_least else "<", color=INK, markersize=8)
            met = {True: ", met", False: ", missed", None: ""}[ratio.is_met]
            axes.annotate(
                f"{ratio.median:.2f} {ratio.bound}{met}",
                (1.01, row),
                xycoords=("axes fraction", "data"),
                color=QUIET,
                va="center",
            )
        axes.axvline(1, color=QUIET, linewidth=1, zorder=0)
        axes.set_yticks(
            range(len(report.ratios)),
            [f"{short(ratio.what)}\nagainst {short(ratio.against)}" for ratio in report.ratios],
        )
        axes.invert_yaxis()
        axes.margins(y=0.6 / max(1, len(report.ratios)))
        axes.set_xlim(left=0)
        axes.set_xlabel("ours / other: a dot for each round, a line at the median, a triangle at the bound")
        axes.set_title(report.name, loc="left", color=INK, fontweight="bold")
        axes.grid(visible=False, axis="y")
        described = "; ".join(
            f"{ratio.what} against {ratio.against}: {ratio.median:.2f} {ratio.bound}" for ratio in report.ratios
        )
        return standalone(as_svg(figure, title=report.name, description=described, name="ratios"))
