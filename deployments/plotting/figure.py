"""Makes figures in a common style, and writes them as SVG: text stays text, and colors follow light or dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from deployments.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The colors that the page's style defines as variables. matplotlib draws with these placeholders.
PAGE_COLORS = {"ink": "#010203", "quiet": "#010204", "rule": "#010205", "accent": "#010206", "failed": "#010207"}
_FALLBACKS = {"ink": "#1f2933", "quiet": "#5c6975", "rule": "#d5dbe1", "accent": "#2f6f9f", "failed": "#c62828"}
_DARK = {"ink": "#e6eaee", "quiet": "#9aa5b1", "rule": "#3a444e", "accent": "#7fb4f0", "failed": "#f08a84"}
INK, QUIET, RULE, ACCENT, FAILED = (PAGE_COLORS[name] for name in ("ink", "quiet", "rule", "accent", "failed"))

#: The colors of series, in this order. Most people, also with color blindness, can distinguish them on any page.
PALETTE = ("#4e79a7", "#e08a2c", "#59a14f", "#b07aa1", "#2fa5a0", "#c9a227", "#9c755f", "#8a8fd1", "#d37295", "#7f8c8d")

#: The width of every figure in inches.
FIGURE_WIDTH = 9.6

#: The largest number of characters of a label beside an axis; longer labels are shortened.
LABEL_CHARACTERS = 40


@contextmanager
def house_style() -> Iterator[None]:
    """Give all figures that are created in the block the same style.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra(
            "plots need matplotlib, which is not installed. `pip install 'photojobs[report]'` installs it."
        ) from None
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": QUIET,
        "axes.edgecolor": RULE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "legend.frameon": False,
        "legend.labelcolor": QUIET,
        "text.parse_math": False,
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(style):
        yield


def new_figure(*, height: float) -> tuple[Figure, Axes]:
    """Create a figure with one pair of axes; call it in a `house_style` block. The height is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(FIGURE_WIDTH, height))
    return figure, figure.add_subplot()


def as_svg(figure: Figure, *, title: str, description: str, name: str) -> str:
    """Return a figure as an `<svg>` element; call it in the `house_style` block in which the figure was created.

    Screen readers read the title, and the description of the content. The caller chooses a `name` that is unique in
    the page and has only letters, digits and hyphens.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = buffer.getvalue()
    # Remove the text before the element and the remaining metadata, because they refer to other documents.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    for color_name, stand_in in PAGE_COLORS.items():
        svg = svg.replace(stand_in, f"var(--{color_name}, {_FALLBACKS[color_name]})")
    # Add the name to all ids, which must be unique in the whole page.
    svg = re.sub(rf'\bid="(?!{name}-)', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    words = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height|id)="[^"]*"', "", head)
    return f'{head} role="img" aria-labelledby="{name}-title {name}-description">{words}{rest}'


def standalone(svg: str) -> str:
    """Return an `<svg>` element as the text of a file, which follows the viewer's light or dark mode."""
    light = ";".join(f"--{name}:{color}" for name, color in _FALLBACKS.items())
    dark = ";".join(f"--{name}:{color}" for name, color in _DARK.items())
    style = (
        f"<style>svg{{{light};background:#fff;font-family:system-ui,sans-serif}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark};background:#15191e}}}}</style>"
    )
    head, rest = svg.split(">", 1)
    return f"{head}>{style}{rest}\n"


def short(label: str) -> str:
    """Return a label on one line, shortened to fit beside an axis."""
    printable = "".join(c if c.isprintable() else "�" for c in label)
    return printable if len(printable) <= LABEL_CHARACTERS else printable[: LABEL_CHARACTERS - 1] + "…"


def colors_for(names: Sequence[str]) -> dict[str, str]:
    """Return a color for each name; the same names in the same order always get the same colors."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(dict.fromkeys(names))}
