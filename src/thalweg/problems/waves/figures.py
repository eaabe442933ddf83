"""The picture of an inversion: truth, start and result on one color scale, and the misfit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thalweg.problems.waves.problem import WaveProblem
    from thalweg.runs.history import History


def draw_models(problem: WaveProblem, history: History, path: Path) -> None:
    """Write the picture to ``path`` (its suffix chooses the format)."""
    from matplotlib.figure import Figure

    from thalweg.runs.figures import readable
    from thalweg.runs.record import parsed

    result = problem.variables[0].data
    panels = [("start", problem.setup.start), ("result", result)]
    if problem.setup.truth is not None:
        panels.insert(0, ("truth", problem.setup.truth))
    values = np.stack([model for _, model in panels])
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 1.0, high + 1.0

    figure = Figure(figsize=(4.0 * (len(panels) + 1), 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels) + 1, width_ratios=[1.0] * len(panels) + [1.1])
    unit, factor = ("mm", 1e3) if max(problem.setup.grid.extent) < 2.0 else ("m", 1.0)
    half = 0.5 * problem.setup.grid.spacing
    depth, width = problem.setup.grid.extent
    extent = [factor * x for x in (-half, width + half, depth + half, -half)]
    for ax, (name, model) in zip(axes[:-1], panels, strict=True):
        image = ax.imshow(model, extent=extent, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
        for positions, size in ((problem.setup.receivers, 1.0), (problem.setup.sources, 2.5)):
            ax.plot(factor * positions[:, 1], factor * positions[:, 0], ".", color="white", markersize=size)
        title = name
        if problem.setup.truth is not None and name != "truth":
            title += f", error {problem.model_error(model):.3f}"
        ax.set_title(title)
        ax.set_xlabel(unit)
        if ax is not axes[0]:
            ax.set_yticklabels([])
    axes[0].set_ylabel(unit)
    figure.colorbar(image, ax=list(axes[:-1]), label="sound speed, m/s", shrink=0.85, pad=0.01)

    columns = history.iterations()
    blocks, misfit = columns["block"], columns["misfit"]
    tables = parsed(history.facts().get("study")).get("blocks") or []
    names = {number: table.get("name") for number, table in enumerate(tables)}
    ax = axes[-1]
    for block in np.unique(blocks).astype(int):
        here = blocks == block
        # Each band has its own wavelet and so its own scale; what matters is how far it falls.
        relative = misfit[here] / misfit[here][0]
        ax.semilogy(columns["iteration"][here], relative, ".-", label=_band(problem, block, names.get(block)))
    ax.set_title("misfit a shot ÷ the band's first")
    ax.set_xlabel("iteration")
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if blocks.size:
        readable(ax)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _band(problem: WaveProblem, block: int, name: str | None) -> str:
    if name:
        return name  # as the picture of the misfit has it
    corner = problem.setup.blocks[block].low_pass
    return _hertz(problem.setup.frequency(block)) + ("" if corner is None else f" below {_hertz(corner)}")


def _hertz(frequency: float) -> str:
    return f"{frequency / 1e3:.4g} kHz" if frequency >= 1e3 else f"{frequency:.4g} Hz"
