"""Undoing the error of the time step.

Leapfrog replaces ∂²/∂t², in the frequency domain −ω², by −Ω², Ω(ω) = (2/Δt) sin(ω Δt / 2), whatever the medium and the
place. So a simulation driven by s answers at ω as the exact wave equation would at Ω(ω), and the error can be taken
out exactly, before and after the simulation (Koene, Robertsson, Broggini & Andersson 2018, eq. 12-15)::

    what drives it    ŝ'(ω) = ŝ(Ω(ω))
    what it answers   d̂(ω) = d̂'(Ω⁻¹(ω)),     Ω⁻¹(ω) = (2/Δt) arcsin(ω Δt / 2)

Both are linear in the time series: matrices (steps, steps), applied in a fixed order of summation. What remains is the
error of the spatial stencil.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from thalweg.errors import ShapeError, SimulationError
from thalweg.graph import Operator, Variable

# Beyond this fraction of the highest frequency that leapfrog can carry, ω Δt = 2, answers are faded out; points a
# wavelength are checked for far lower ones.
FADE = (0.6, 0.9)


_COLUMNS = 256  # of the matrix made at a time


def _matrix(steps: int, into: NDArray[np.float64], gain: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return M of y = M x with ŷ(ω_k) = gain_k · x̂(into_k), for ω_k = 2πk/2N, in radians a sample.

    Column j is the inverse transform of gain · exp(−i into j): a unit impulse at sample j, seen through the map. One
    FFT a column, not a matrix product, whose last bits would depend on the number of BLAS threads.
    """
    out = np.empty((steps, steps), dtype)
    for first in range(0, steps, _COLUMNS):
        j = np.arange(first, min(first + _COLUMNS, steps))
        spectra = gain * np.exp(-1j * np.outer(j, into))
        out[:, first : first + len(j)] = np.fft.irfft(spectra, n=2 * steps, axis=1)[:, :steps].T
    return out


def _samples(steps: int) -> NDArray[np.float64]:
    """Return ω Δt of the spectrum that `_matrix` makes."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise SimulationError(f"steps must be an integer of at least 2, got {steps!r}.")
    return np.pi * np.arange(steps + 1) / steps


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _apply(matrix: NDArray[Any], x: NDArray[Any], y: NDArray[Any], transpose: bool) -> None:
    y[:] = 0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            w = matrix[i, j]
            row, column = (j, i) if transpose else (i, j)
            for r in range(y.shape[1]):
                y[row, r] += w * x[column, r]


class _LinearInTime(Operator):
    """y = M x along the first axis; x has shape (steps,) or (steps, n), float32 or float64.

    The matrix is made when it is first needed, in the dtype that is needed.
    """

    blocking = True

    def __init__(self, steps: int, into: NDArray[np.float64], gain: NDArray[np.float64], *, name: str | None) -> None:
        super().__init__(name=name)
        self._steps = steps
        self._map = into, gain
        self._matrices: dict[np.dtype[Any], NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the matrices behind: another process makes its own, bit by bit the same."""
        return {**self.__dict__, "_matrices": {}}

    def memory(self, dtype: DTypeLike = np.float32) -> int:
        """Return the bytes of the matrix."""
        return int(self._steps**2 * np.dtype(dtype).itemsize)

    def forward(self, series: Variable) -> Variable:
        """See the class."""
        data = series.data
        fits = isinstance(data, np.ndarray) and data.dtype in (np.float32, np.float64) and data.ndim in (1, 2)
        if not fits or len(data) != self._steps:
            raise ShapeError(
                f"{self.name}: expected float32 or float64 of {self._steps} time steps along the first axis, got "
                f"{series.dtype} {series.shape}."
            )
        return Variable(self._product(data, transpose=False))

    def adjoint(self, grad: NDArray[Any], series: Variable) -> NDArray[Any]:
        """Return the transpose applied to ``grad``."""
        return self._product(grad, transpose=True)

    def _product(self, series: NDArray[Any], *, transpose: bool) -> NDArray[Any]:
        if series.dtype not in self._matrices:
            self._matrices[series.dtype] = _matrix(self._steps, *self._map, series.dtype)
        columns = np.ascontiguousarray(series.reshape(self._steps, -1))
        out = np.empty_like(columns)
        _apply(self._matrices[series.dtype], columns, out, transpose)
        return out.reshape(series.shape)


class AddTimeDispersion(_LinearInTime):
    """The wavelet to drive a `Propagator` with, so that it answers (after `RemoveTimeDispersion`) the given one.

    ``await add(wavelet)`` maps a Variable (steps,) or (steps, sources) to one of the same shape and dtype.

    Args:
        steps: number of samples; the map is the same for every Δt.

    >>> import numpy as np, thalweg as tw
    >>> from thalweg.problems.waves import AddTimeDispersion, RemoveTimeDispersion, ricker
    >>> w = tw.Variable(ricker(12.0, 2e-3, 400), name="wavelet")
    >>> there = tw.wait(AddTimeDispersion(400)(w))
    >>> back = tw.wait(RemoveTimeDispersion(400)(there))
    >>> bool(abs(back.data - w.data).max() < 1e-6)
    True
    """

    def __init__(self, steps: int, *, name: str | None = None) -> None:
        omega = _samples(steps)
        super().__init__(steps, 2.0 * np.sin(0.5 * omega), np.ones(steps + 1), name=name)


class RemoveTimeDispersion(_LinearInTime):
    """Traces as an infinitely small time step would have given them, from those of a `Propagator`.

    ``await remove(traces)`` maps a Variable (steps, receivers) to one of the same shape and dtype.

    What lies above 0.6 of the highest frequency that leapfrog carries (ω Δt = 2) is faded out, and gone at 0.9.

    Args:
        steps: number of samples; the map is the same for every Δt.
    """

    def __init__(self, steps: int, *, name: str | None = None) -> None:
        omega = _samples(steps)
        carried = np.minimum(0.5 * omega, 1.0)
        low, high = FADE
        gain = 0.5 + 0.5 * np.cos(np.pi * np.clip((0.5 * omega - low) / (high - low), 0.0, 1.0))
        super().__init__(steps, 2.0 * np.arcsin(carried), gain, name=name)
