"""The regular grid: the model in the middle, absorbing cells around it, and points between the cells.

A model has shape (n₀, n₁); its cell (i, j) is at (i·h, j·h) m. The padded grid adds ``absorbing`` cells on every side
(none at the top, the side of i = 0, under a free surface) into which the model's edge values are continued.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import PositionError, ShapeError, SimulationError

SINC_HALF_WIDTH = 4  # points on each side
SINC_BETA = 6.31  # the Kaiser parameter that Hicks (2002), table 1, recommends for this half-width


class Points(NamedTuple):
    """Interpolation weights of several positions, row after row (a CSR matrix over the padded grid).

    ``offsets`` (n + 1,) marks where each position's entries start; ``rows``, ``columns`` index the padded grid.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """A regular two-dimensional grid.

    Args:
        shape: cells of the model along its two axes (depth first, where there is a depth).
        spacing: distance h between cells, m, the same along both axes.
        absorbing: absorbing cells on each side.
        free_surface: True makes the line i = 0 a free surface (pressure zero) without absorbing cells above it.

    Raises:
        SimulationError: for sizes that make no grid.

    >>> Grid((100, 200), spacing=5.0).padded_shape
    (140, 240)
    """

    shape: tuple[int, int]
    spacing: float
    absorbing: int = 20
    free_surface: bool = False

    def __post_init__(self) -> None:
        try:
            n0, n1 = (index(n) for n in self.shape)
            absorbing = index(self.absorbing)
        except (TypeError, ValueError):
            raise SimulationError(
                f"A grid needs two whole sizes and a whole number of absorbing cells, got shape {self.shape!r} and "
                f"{self.absorbing!r}."
            ) from None
        if min(n0, n1) < 2:
            raise SimulationError(f"A grid needs two sizes of at least 2 cells, got shape {self.shape}.")
        if not isinstance(self.free_surface, bool):
            raise SimulationError(f"free_surface must be True or False, got {self.free_surface!r}.")
        object.__setattr__(self, "shape", (n0, n1))  # lists compare unequal to the shapes of arrays
        object.__setattr__(self, "absorbing", absorbing)
        if not (np.isfinite(self.spacing) and self.spacing > 0.0):
            raise SimulationError(f"spacing must be a positive number of m, got {self.spacing}.")
        if self.absorbing < 0:
            raise SimulationError(f"absorbing must be 0 or more cells, got {self.absorbing}.")

    @property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Absorbing cells (before, after) along each axis."""
        return (
            (0 if self.free_surface else self.absorbing, self.absorbing),
            (self.absorbing, self.absorbing),
        )

    @property
    def padded_shape(self) -> tuple[int, int]:
        """Cells along both axes, absorbing ones included."""
        (top, bottom), (left, right) = self.margins
        return (self.shape[0] + top + bottom, self.shape[1] + left + right)

    @property
    def extent(self) -> tuple[float, float]:
        """Distance between the first and the last cell of the model along both axes, m."""
        return ((self.shape[0] - 1) * self.spacing, (self.shape[1] - 1) * self.spacing)

    def check_model(self, model: NDArray[Any], name: str) -> None:
        """Raise `ShapeError` unless ``model`` has this grid's shape."""
        if model.shape != self.shape:
            raise ShapeError(f"{name} has shape {model.shape}, the grid has {self.shape}.", variable=name)

    def pad(self, model: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the model with its edge values continued into the absorbing cells."""
        return np.pad(model, self.margins, mode="edge")

    def pad_adjoint(self, padded: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the transpose of `pad` applied to ``padded``: what the absorbing cells hold is added to the edges."""
        (top, bottom), (left, right) = self.margins
        rows = padded[top : top + self.shape[0]].copy()
        rows[0] += padded[:top].sum(axis=0)
        rows[-1] += padded[padded.shape[0] - bottom :].sum(axis=0)
        out = rows[:, left : left + self.shape[1]].copy()
        out[:, 0] += rows[:, :left].sum(axis=1)
        out[:, -1] += rows[:, rows.shape[1] - right :].sum(axis=1)
        return out

    def check_positions(self, positions: ArrayLike, name: str, *, inside_model: bool = False) -> NDArray[np.float64]:
        """Return ``positions`` as an array (n, 2), m; raise `PositionError` for any outside the grid.

        ``inside_model`` allows only the model, otherwise the absorbing cells are allowed too.
        """
        try:
            p = np.atleast_2d(np.asarray(positions, dtype=np.float64))
        except (TypeError, ValueError):
            raise PositionError(f"{name} must be an array (n, 2) of m, got {positions!r}.") from None
        if p.ndim != 2 or p.shape[1] != 2 or p.shape[0] < 1:
            raise PositionError(f"{name} must be an array (n, 2) of m, got shape {p.shape}.")
        low = np.zeros(2)
        high = np.asarray(self.extent)
        if not inside_model:
            before, after = np.array(self.margins, dtype=np.float64).T * self.spacing
            low, high = low - before, high + after
        slack = 1e-9 * self.spacing  # positions computed in floating point may miss an edge by a rounding error
        bad = ~((p >= low - slack) & (p <= high + slack)).all(axis=1)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise PositionError(
                f"{name}: {int(bad.sum())} of {len(p)} positions are outside the "
                f"{'model' if inside_model else 'grid'}; the first is number {first} at "
                f"({p[first, 0]:.6g}, {p[first, 1]:.6g}) m. Allowed are {low[0]:g} to {high[0]:g} m "
                f"and {low[1]:g} to {high[1]:g} m.",
                name=name,
                first=first,
            )
        return p

    def points(self, positions: ArrayLike, name: str = "positions") -> Points:
        """Return Kaiser-windowed sinc weights which interpolate the padded grid at ``positions``.

        Along each axis w(x) = sinc(x) I₀(β √(1 − (x/4)²)) / I₀(β) over 8 points, x in cells; a position on a grid
        point uses that point alone. Weights beyond the outermost absorbing cells, where the field is zero, are
        dropped; above a free surface they are reflected with the opposite sign, as the field is odd there.

        Args:
            positions: (n, 2), m, anywhere inside the padded grid.
            name: how an error calls them.

        Raises:
            PositionError: for positions outside the padded grid.

        Reference: Hicks (2002), Geophysics 67, 156-165, eq. 7 and table 1.
        """
        p = self.check_positions(positions, name) / self.spacing
        rows, along = self._along(p[:, 0], axis=0)
        columns, across = self._along(p[:, 1], axis=1)
        weights = along[:, :, None] * across[:, None, :]
        used = weights != 0.0
        which, i, j = np.nonzero(used)  # in the order of positions, rows and columns
        offsets = np.concatenate([[0], np.cumsum(used.sum(axis=(1, 2)))])
        return Points(offsets.astype(np.int64), rows[which, i], columns[which, j], weights[used])

    def _along(self, cells: NDArray[np.float64], *, axis: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return indices into the padded grid and weights along one axis, (n, 8); unused ones have weight 0."""
        first = np.floor(cells).astype(np.int64) - SINC_HALF_WIDTH + 1
        around = first[:, None] + np.arange(2 * SINC_HALF_WIDTH)
        x = around - cells[:, None]
        window = np.i0(SINC_BETA * np.sqrt(np.maximum(0.0, 1.0 - (x / SINC_HALF_WIDTH) ** 2))) / np.i0(SINC_BETA)
        nearest = np.rint(cells)
        on_grid = np.abs(cells - nearest) < 1e-9
        weights = np.where(on_grid[:, None], around == nearest[:, None], np.sinc(x) * window)
        if axis == 0 and self.free_surface:
            weights = np.where(around < 0, -weights, weights)
            around = np.abs(around)
        index = around + self.margins[axis][0]
        inside = (index >= 0) & (index < self.padded_shape[axis])
        return np.where(inside, index, 0), np.where(inside, weights, 0.0)
