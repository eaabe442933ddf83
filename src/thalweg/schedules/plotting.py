"""The picture of a schedule: values against completed epochs or iterations, constant from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(values: np.ndarray, *, counts: str, kind: str, label: str | None = None, axes: Axes | None = None) -> Axes:
    """Draw values of a schedule.

    Args:
        values: shape ``(n,)``; the first is that of the first epoch or iteration.
        counts: what is counted, for the axis.
        kind: the name in the legend where no label is given.
        label: the name in the legend, which is there with a label, or once the axes hold several lines.
        axes: where to draw; by default the axes of a new figure, which pyplot does not know and no display shows.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> from thalweg.schedules.plotting import draw
        >>> draw(np.array([2.0, 1.0]), counts="epochs", kind="exp").get_ylabel()
        'value'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if axes is None:
        figure = Figure(figsize=(7.0, 4.0), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(alpha=0.3)
    axes.plot(np.arange(len(values)), values, drawstyle="steps-post", label=label or kind)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(f"completed {counts}")
    axes.set_ylabel("value")
    if label or len(axes.lines) > 1:
        axes.legend()
    return axes
