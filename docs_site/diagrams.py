"""Draws Mermaid diagrams when the site is built, so that readers load no script for them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import mermaidx

from docs_site.pages import ROOT

#: The folder with drawn diagrams: drawing takes seconds, so a diagram is drawn again only if its text has changed.
_CACHE = ROOT / ".cache" / "diagrams"
#: Texts are measured with DejaVu Sans; Verdana has the same widths.
_CONFIG = {
    "fontFamily": "DejaVu Sans, Verdana, sans-serif",
    "themeVariables": {"fontSize": "14px", "fontFamily": "DejaVu Sans, Verdana, sans-serif"},
    "flowchart": {"htmlLabels": False, "nodeSpacing": 30, "rankSpacing": 40},
}


def drawn(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """Return a fenced block as an HTML element with its diagram; the Markdown extension for fenced blocks calls this.

    Raises:
        RuntimeError: Mermaid cannot draw the text.
    """
    return f'<figure class="diagram">{_svg(source)}</figure>'


def _svg(source: str) -> str:
    key = hashlib.sha256(f"{mermaidx.__version__}\n{_CONFIG}\n{source}".encode()).hexdigest()[:20]
    kept = _CACHE / f"{key}.svg"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    svg: str = mermaidx.render(source, theme="neutral", config=_CONFIG).svg()
    # The styles in a diagram refer to its id, which must be unique because a page may have several diagrams.
    svg = svg.replace("my-svg", f"diagram-{key}")
    wide = re.search(r"max-width: ([0-9.]+)px", svg)
    if wide:
        svg = svg.replace('width="100%"', f'width="{float(wide[1]):.0f}"', 1)
    _CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(svg, encoding="utf-8")
    return svg
