"""Plots of benchmarks are self-contained SVG files, for all measurements and names."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest

from benchmarks.measure import Ratio, Report
from benchmarks.plot import plot_report
from deployments.errors import MissingExtra

HOSTILE = "<script>&amp;$\\frac"


def report(*targets: float | None) -> Report:
    ratios = [
        Ratio(what=f"{HOSTILE} {n}", unit="jobs/s", ours=[9, 11, 10], others=[10, 10, 10], against="raw", target=target)
        for n, target in enumerate(targets)
    ]
    return Report("claims", ratios=ratios)


def test_a_benchmark_is_drawn_with_its_medians_bounds_and_verdicts() -> None:
    svg = plot_report(report(0.8, 1.2, None))

    root = ElementTree.fromstring(svg)
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"claims", "1.00 >= 0.8, met", "1.00 >= 1.2, missed"} <= {text.strip() for text in texts}
    assert any(HOSTILE in text for text in texts)
    assert not [element for element in root.iter() if element.tag.endswith(("script", "image"))]


def test_a_picture_is_the_same_for_the_same_numbers_and_names_no_other_document() -> None:
    svg = plot_report(report(0.8))

    assert svg == plot_report(report(0.8))
    assert set(re.findall(r"https?://[^\"' <]+", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MissingExtra, match=r"pip install 'photojobs\[report\]'"):
        plot_report(report(0.8))
