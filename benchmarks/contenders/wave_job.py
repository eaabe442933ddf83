"""The job of the wave contest: the gradient of the misfit of two shots, described with NumPy alone.

Model and observed data are such that gradients of all contenders can be compared with each other: every contender
makes its own observed data with the true model, then the gradient at the starting model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WaveJob:
    """Two shots over a square of ``cells``² with ``layer`` absorbing cells a side; all positions are on grid points."""

    cells: int
    steps: int
    order: int
    save_every: int  # 1: the wavefield of every step is kept for the gradient
    threads: int = 2
    layer: int = 20
    spacing: float = 10.0  # m
    time_step: float = 1e-3  # s
    frequency: float = 10.0  # Hz, of the Ricker wavelet
    at_least: float = 0.5  # s, that a round takes
    results: str = ""  # where traces and gradient are left for the comparison

    @property
    def source_cells(self) -> NDArray[np.int64]:
        """Cells of the two sources, (2, 2)."""
        return np.array([[self.cells // 20, self.cells // 4], [self.cells // 20, 3 * self.cells // 4]])

    @property
    def receiver_cells(self) -> NDArray[np.int64]:
        """Cells of the receivers, one in each column of a line, (cells, 2)."""
        return np.stack([np.full(self.cells, self.cells // 12), np.arange(self.cells)], axis=1)

    @property
    def start(self) -> NDArray[np.float32]:
        """Starting sound speed, m/s: faster with depth."""
        depth = np.linspace(0.0, 1.0, self.cells)[:, None]
        return np.broadcast_to(1900.0 + 300.0 * depth, (self.cells, self.cells)).astype(np.float32)

    @property
    def truth(self) -> NDArray[np.float32]:
        """Sound speed of the observed data, m/s: a lens in the starting model."""
        z, x = np.meshgrid(*[np.linspace(-1.0, 1.0, self.cells)] * 2, indexing="ij")
        return (self.start + 150.0 * np.exp(-8.0 * (z**2 + x**2))).astype(np.float32)

    @property
    def wavelet(self) -> NDArray[np.float32]:
        """Ricker wavelet (steps,), its peak at 1.5 periods."""
        t = self.time_step * np.arange(self.steps)
        a = (pi * self.frequency * (t - 1.5 / self.frequency)) ** 2
        return ((1.0 - 2.0 * a) * np.exp(-a)).astype(np.float32)

    @property
    def points(self) -> float:
        """Grid points computed in one gradient of both shots, forward and back."""
        return 2.0 * (self.cells + 2 * self.layer) ** 2 * self.steps * len(self.source_cells)

    @property
    def undisturbed(self) -> NDArray[np.bool_]:
        """Where in the traces (2, steps, receivers) nothing can yet have returned from the absorbing layer."""
        last = self.cells - 1
        shortest = np.full((len(self.source_cells), self.cells), np.inf)
        for axis, edge in ((0, 0), (0, last), (1, 0), (1, last)):
            mirrored = self.source_cells.copy()
            mirrored[:, axis] = 2 * edge - mirrored[:, axis]
            apart = mirrored[:, None, :] - self.receiver_cells[None, :, :]
            shortest = np.minimum(shortest, np.hypot(apart[..., 0], apart[..., 1]))
        arrival = shortest * self.spacing / float(self.truth.max())
        return self.time_step * np.arange(self.steps)[None, :, None] < arrival[:, None, :]

    def pad(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        """Continue the model's edge values into the absorbing cells."""
        return np.pad(model, self.layer, mode="edge")

    def leave(self, name: str, traces: Any, gradient: Any) -> dict[str, bool]:
        """Leave traces (2, steps, receivers) and dJ/dc (cells, cells) for the comparison; say what is wrong."""
        traces, gradient = np.asarray(traces), np.asarray(gradient)
        if self.results:
            np.savez(Path(self.results) / f"{name}.npz", traces=traces, gradient=gradient)
        return {"finite": bool(np.isfinite(gradient).all()), "zero": not gradient.any()}
