"""Pictures of a run that do not depend on what it optimizes: the misfit over the iterations.

Figures are objects with an Agg canvas of their own; pyplot, with its global list of figures and its choice of
a window system, is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.runs.history import History
from thalweg.runs.settings import GenericBlock

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NARROW, _FEW = 0.7, 2.5  # decades

MISFIT_MARK = "thalweg.runs.figures.draw_misfit"
"""Stands in the picture's metadata: a report, which has this curve already, leaves the picture out."""


def draw_misfit(path: Path, history: History, blocks: Sequence[GenericBlock]) -> None:
    """Draw the misfit an item over the iterations, block by block.

    The values are those of the batches before their steps. Blocks may measure different things (frequency
    bands), so each has a color of its own and is divided by its first value.

    Args:
        path: the file to draw into, ``.png``.
        history: of the run; one iteration at least.
        blocks: the blocks of the study, in order.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = history.iterations()
    figure = Figure(figsize=(7.0, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    logarithmic = True
    for index in np.unique(columns["block"]):
        inside = columns["block"] == index
        misfit = columns["misfit"][inside]
        relative = misfit / misfit[0] if misfit[0] != 0 else misfit
        logarithmic &= bool(np.all(relative > 0))
        name = blocks[index].name or f"block {index + 1}"
        axes.plot(columns["iteration"][inside], relative, marker="o", markersize=3, label=name)
    if logarithmic:
        axes.set_yscale("log")
        readable(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")
    axes.set_ylabel("misfit ÷ first of its block")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Source": MISFIT_MARK})


def readable(axes: Axes) -> None:
    """Label a logarithmic vertical axis as people write numbers; within a decade or so with 1, 2, 5 between its powers,
    so that a misfit that has hardly fallen has its values there, too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    if decades < _NARROW:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    elif decades < _FEW:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        return
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
