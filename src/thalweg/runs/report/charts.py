"""Curves as inline SVG that takes the page's colors, so that it is light or dark with the page.

Matplotlib writes colors as numbers. Each color here is a number that stands for one of the page's, and is replaced
when the picture is done.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.runs.report.markup import Markup, element

SERIES = 8
"""So many colors there are; further curves use them again."""

_INK, _LINE = "#a0f1c0", "#a0f1c1"
_SERIES = [f"#a0f1d{i}" for i in range(SERIES)]
_MOST = 1500  # points of a curve; a screen shows no more
_LARGEST = 1e300
_DOTS = 60  # up to so many points are marked


@dataclass(frozen=True)
class Curve:
    """One curve.

    Args:
        x: shape (n,).
        y: shape (n,); gaps where it is not finite.
        name: in the legend; no legend where it is empty.
        color: its number, from 0.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    name: str = ""
    color: int = 0


def chart(title: str, curves: Sequence[Curve], *, text: str = "", x: str = "iteration", log: bool = False) -> Markup:
    """A figure with curves; nothing if there is no finite point.

    Args:
        title: what it shows, with its unit.
        curves: what is drawn.
        text: a sentence under the title.
        x: what the horizontal axis counts.
        log: whether the vertical axis may be logarithmic: where all values are positive and span a decade.
    """
    drawn = [Curve(*_thinned(c.x, c.y), c.name, c.color % SERIES) for c in curves if np.isfinite(c.y).any()]
    if not drawn:
        return Markup("")
    keys = [
        element("span", element("i", style=f"background:var(--s{c.color + 1})"), c.name, class_="key")
        for c in drawn
        if c.name
    ]
    caption = element("figcaption", element("b", title), *([" ", text] if text else []))
    return element("figure", caption, _svg(drawn, title, x, log), *keys)


def color_of(index: int) -> str:
    """The page's color of the curve number ``index``, from 0."""
    return f"var(--s{index % SERIES + 1})"


def _svg(curves: list[Curve], title: str, x: str, log: bool) -> Markup:
    def draw(axes: Any) -> None:
        for curve in curves:
            marker = "o" if len(curve.x) <= _DOTS else None
            axes.plot(curve.x, curve.y, color=paint(curve.color), marker=marker, markersize=3.2, linewidth=1.5)
        if log and _spans_a_decade(curves):
            axes.set_yscale("log")
        elif _widest(curves) >= 1e5 or 0 < _widest(curves) < 1e-3:
            axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        whole_numbers(axes)

    return picture(title, draw, x=x)


def whole_numbers(axes: Any) -> None:
    """Have no tick of the horizontal axis, which counts something, between two whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def paint(index: int) -> str:
    """What ``draw`` of :func:`picture` says for the page's color of the curve number ``index``."""
    return _SERIES[index % SERIES]


def picture(title: str, draw: Callable[[Any], None], *, x: str, y: str = "") -> Markup:
    """A picture of its own, in the page's colors.

    Args:
        title: what it shows.
        draw: called with Matplotlib's axes; takes its colors from :func:`paint`.
        x: what the horizontal axis shows.
        y: what the vertical axis shows; nothing where the title says it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "thalweg", "font.size": 9.0, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.5, 2.5), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        draw(axes)
        axes.set_xlabel(x, color=_INK)
        axes.set_ylabel(y, color=_INK)
        axes.tick_params(colors=_INK, which="both", length=3)
        axes.yaxis.get_offset_text().set_color(_INK)
        axes.grid(color=_LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_LINE)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return Markup(_page_colors(stream.getvalue(), title))


def _page_colors(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace(_INK, "currentColor").replace(_LINE, "var(--line)")
    for index, color in enumerate(_SERIES):
        svg = svg.replace(color, color_of(index))
    # The size is the page's to choose; the view box keeps the shape.
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height|version|xmlns:xlink|xmlns)="[^"]*"', "", head)
    rest = rest.replace("xlink:href", "href")
    label = element("title", title)
    return f'{head} role="img">{label}{rest}'


def _spans_a_decade(curves: list[Curve]) -> bool:
    values = np.concatenate([c.y[np.isfinite(c.y)] for c in curves])
    return bool(values.min() > 0 and values.max() / 10 >= values.min())


def _widest(curves: list[Curve]) -> float:
    return max(float(np.nanmax(np.abs(c.y[np.isfinite(c.y)]))) for c in curves)


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of many points the lowest and the highest of each stretch, so that no peak is lost."""
    # An axis cannot be longer than the largest float64.
    y = np.where(np.isfinite(y), np.clip(y, -_LARGEST, _LARGEST), np.nan)
    if len(x) <= _MOST:
        return x, y
    edges = np.linspace(0, len(x), _MOST // 2 + 1).astype(int)
    kept: set[int] = {0, len(x) - 1}
    for start, stop in itertools.pairwise(edges):
        piece = y[start:stop]
        if np.isfinite(piece).any():
            kept |= {start + int(np.nanargmin(piece)), start + int(np.nanargmax(piece))}
        else:
            kept.add(int(start))
    order = np.array(sorted(kept))
    return x[order], y[order]
