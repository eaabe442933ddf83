"""Observed data: made on a finer grid than the inversion's, or filtered into a band."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import SimulationError, StudyError
from thalweg.graph import Variable, wait
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.propagator import Propagator
from thalweg.problems.waves.time_dispersion import RemoveTimeDispersion
from thalweg.runtime import Pieces


def finer_grid(grid: Grid, ratio: float) -> Grid:
    """Return a grid of spacing ``ratio``·h with the same first cell which covers at least the same ground."""
    spacing = ratio * grid.spacing
    shape = (int(np.ceil(grid.extent[0] / spacing)) + 1, int(np.ceil(grid.extent[1] / spacing)) + 1)
    return Grid(shape, spacing, int(np.ceil(grid.absorbing / ratio)), grid.free_surface)


def interpolate(model: NDArray[Any], grid: Grid, onto: Grid) -> NDArray[np.float64]:
    """Return ``model`` on another grid by cubic splines; beyond its edge the edge's values continue."""
    from scipy import ndimage

    axes = [np.arange(n) * (onto.spacing / grid.spacing) for n in onto.shape]
    where = np.meshgrid(*axes, indexing="ij")
    return np.asarray(ndimage.map_coordinates(np.asarray(model, np.float64), where, order=3, mode="nearest"))


class ObservedShot:
    """One shot on the finer grid, sampled like the inversion: a task for a runtime.

    The simulation's sampling rate is ``down/up`` times the inversion's; a polyphase low-pass filter resamples it.
    """

    def __init__(
        self,
        propagator: Propagator,
        model: NDArray[Any],
        wavelet: NDArray[Any],
        sources: NDArray[np.float64],
        receivers: NDArray[np.float64],
        *,
        resample: tuple[int, int],
        steps: int,
        correction: RemoveTimeDispersion | None,
    ) -> None:
        self._propagator = propagator
        self._model = model
        self._wavelet = wavelet
        self._sources = sources
        self._receivers = receivers
        self._up, self._down = resample
        self._steps = steps
        self._correction = correction

    def __call__(self, shot: int) -> Pieces:
        """Return the traces of shot number ``shot``, (steps, receivers), as the piece of that number."""
        from scipy import signal

        vp = Variable(self._model, name="vp")
        wavelet = Variable(self._wavelet, name="wavelet")
        geometry = self._propagator.shot(self._sources[shot : shot + 1], self._receivers)
        simulated = wait(self._propagator(vp, wavelet, geometry))
        traces = (wait(self._correction(simulated)) if self._correction else simulated).data
        sampled = signal.resample_poly(traces.astype(np.float64), self._up, self._down, axis=0)
        return Pieces({shot: sampled[: self._steps].astype(self._model.dtype)})


def add_noise(data: NDArray[Any], level: float, rng: np.random.Generator) -> None:
    """Add Gaussian noise of standard deviation ``level`` times the RMS of the data, in place."""
    deviation = level * float(np.sqrt(np.mean(np.square(data, dtype=np.float64))))
    for shot in data:
        shot += (deviation * rng.standard_normal(shot.shape)).astype(data.dtype)


def check_low_pass(wavelet: NDArray[Any], corner: float, time_step: float, name: str) -> None:
    """Raise `StudyError` where a low-pass filter would leave nothing of a wavelet, or cut off what it spreads.

    The filtered wavelet begins before the wavelet does. What lies before time 0 is lost, and with it the agreement
    with the filtered data; 1 % of the amplitude is allowed.
    """
    steps = len(wavelet)
    padded = np.concatenate([np.zeros(steps), wavelet.astype(np.float64), np.zeros(steps)])
    filtered = low_pass(corner, time_step, len(padded))(padded)
    whole = float(np.square(filtered).sum())
    if whole < 1e-6 * float(np.square(padded).sum()):
        raise StudyError(f"{name}: {corner:g} Hz leaves nothing of the wavelet; it is made of higher frequencies.")
    early = np.square(filtered[:steps])
    if early.sum() > 1e-4 * whole:
        missing = steps - int(np.searchsorted(np.cumsum(np.square(filtered)), 1e-4 * whole))
        raise StudyError(
            f"{name}: at {corner:g} Hz the filtered wavelet begins {missing * time_step:.3g} s before time 0 and would "
            f"be cut off. Begin the wavelet and the records with so much silence, or choose a higher corner."
        )


def low_pass(corner: float, time_step: float, steps: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a zero-phase filter along the first axis: 1 up to ``corner`` Hz, 0 from 1.3 times that, a cosine between.

    A zero-phase filter spreads an arrival to both sides, and what it spreads across the end of the record is lost:
    records need some silence at both ends.

    Raises:
        SimulationError: when the corner is above the Nyquist frequency.
    """
    if not corner < 0.5 / time_step:
        raise SimulationError(f"low_pass must be below the Nyquist frequency {0.5 / time_step:g} Hz, got {corner:g}.")
    frequencies = np.fft.rfftfreq(2 * steps, time_step)
    gain = 0.5 * (1.0 + np.cos(np.pi * np.clip((frequencies / corner - 1.0) / 0.3, 0.0, 1.0)))

    def apply(array: NDArray[Any]) -> NDArray[Any]:
        spectrum = np.fft.rfft(array.astype(np.float64), n=2 * steps, axis=0)
        shaped = gain.reshape(-1, *[1] * (array.ndim - 1))
        return np.fft.irfft(spectrum * shaped, n=2 * steps, axis=0)[:steps].astype(array.dtype)

    return apply
