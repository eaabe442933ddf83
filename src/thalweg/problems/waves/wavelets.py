"""Source time functions, and how far up their spectrum reaches."""

from __future__ import annotations

from math import exp, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from thalweg.errors import SimulationError

QUIET = 0.01  # of its peak: what of a wavelet may be cut off


def _times(time_step: float, steps: int) -> NDArray[np.float64]:
    if not (np.isfinite(time_step) and time_step > 0.0):
        raise SimulationError(f"time_step must be a positive number of seconds, got {time_step}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SimulationError(f"steps must be an integer of at least 1, got {steps!r}.")
    return time_step * np.arange(steps, dtype=np.float64)


def _dtype(dtype: DTypeLike) -> np.dtype[np.floating[Any]]:
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise SimulationError(f"dtype must be float32 or float64, got {found}.")
    return found


def _check_frequency(frequency: float, time_step: float) -> None:
    if not (np.isfinite(frequency) and 0.0 < frequency < 0.5 / time_step):
        raise SimulationError(
            f"frequency must lie between 0 and the Nyquist frequency {0.5 / time_step:.6g} Hz, got {frequency}."
        )


def ricker(
    frequency: float, time_step: float, steps: int, *, delay: float | None = None, dtype: DTypeLike = np.float64
) -> NDArray[np.floating]:
    """Return the Ricker wavelet (1 − 2a) exp(−a), a = (π f (t − delay))².

    Args:
        frequency: peak frequency f, Hz.
        time_step: s.
        steps: number of samples; sample n is at time n·time_step.
        delay: time of the peak, s; 1.5 / f unless given, where the wavelet has decayed to 1e-8.
        dtype: of the result.

    Returns:
        Array of shape (steps,), peak amplitude 1.

    >>> int(ricker(10.0, 0.001, 400).argmax())
    150

    Reference: Ricker (1953), Geophysics 18, 10-40, eq. 22.
    """
    t = _times(time_step, steps)
    _check_frequency(frequency, time_step)
    if delay is not None and not np.isfinite(delay):
        raise SimulationError(f"delay must be a number of seconds, got {delay}.")
    a = (pi * frequency * (t - (1.5 / frequency if delay is None else delay))) ** 2
    return ((1.0 - 2.0 * a) * np.exp(-a)).astype(_dtype(dtype))


def tone_burst(
    frequency: float, time_step: float, steps: int, *, cycles: float = 3.0, dtype: DTypeLike = np.float64
) -> NDArray[np.floating]:
    """Return ``cycles`` periods of a sine under a Gaussian envelope, as medical transducers emit.

    sin(2π f (t − T/2)) exp(−½ ((t − T/2) / (T/6))²) with T = cycles / f, then zero after T, where the envelope has
    fallen to 1.1 % of its peak; the step there is removed by subtracting the envelope's end value.

    Args:
        frequency: center frequency f, Hz.
        time_step: s.
        steps: number of samples.
        cycles: periods under the envelope.
        dtype: of the result.

    Returns:
        Array of shape (steps,).

    >>> w = tone_burst(100e3, 2e-7, 500)
    >>> bool(w[0] == 0.0), bool(abs(w).max() > 0.8)
    (True, True)
    """
    t = _times(time_step, steps)
    _check_frequency(frequency, time_step)
    if not (np.isfinite(cycles) and cycles > 0.0):
        raise SimulationError(f"cycles must be positive, got {cycles}.")
    length = cycles / frequency
    s = (t - 0.5 * length) / (length / 6.0)
    envelope = np.where(t <= length, (np.exp(-0.5 * s**2) - np.exp(-4.5)) / (1.0 - np.exp(-4.5)), 0.0)
    return (np.sin(2.0 * pi * frequency * (t - 0.5 * length)) * envelope).astype(_dtype(dtype))


def ricker_end(frequency: float) -> float:
    """Return the time, s, after which `ricker` with its own delay stays below 1 % of its peak: 2.354 / f.

    >>> round(ricker_end(10.0), 4)
    0.2354
    """
    return (1.5 + sqrt(7.2005) / pi) / frequency  # (2a − 1) exp(−a) = 0.01 at a = 7.2005


def tone_burst_end(frequency: float, cycles: float) -> float:
    """Return the time, s, after which the envelope of `tone_burst` stays below 1 % of its peak.

    >>> round(tone_burst_end(100e3, 3.0) * 1e6, 2)
    28.9
    """
    ground = exp(-4.5)
    s = sqrt(-2.0 * log(QUIET * (1.0 - ground) + ground))
    return (0.5 + s / 6.0) * cycles / frequency


def dominant_frequency(wavelet: NDArray[np.floating], time_step: float) -> float:
    """Return the frequency, in Hz, at which the amplitude spectrum of a wavelet (steps,) is largest.

    Raises:
        SimulationError: for silence, and for a wavelet that is a constant.

    >>> round(dominant_frequency(ricker(12.0, 1e-3, 512), 1e-3))
    12
    """
    w = np.asarray(wavelet, dtype=np.float64)
    peak = int(np.abs(np.fft.rfft(w, n=4 * len(w))).argmax())
    if peak == 0:
        raise SimulationError("The wavelet has no frequency: it is silent, or its mean dominates.")
    return peak / (4 * len(w) * time_step)


def highest_frequency(wavelet: NDArray[np.floating], time_step: float, *, level: float = -40.0) -> float:
    """Return the highest frequency, in Hz, at which the amplitude spectrum is within ``level`` dB of its maximum.

    ``wavelet`` has shape (steps,) or (steps, sources), of which the highest counts; the spectrum is zero-padded
    fourfold. 0.0 for silence.

    >>> 25.0 < highest_frequency(ricker(12.0, 1e-3, 512), 1e-3) < 40.0
    True
    """
    w = np.asarray(wavelet, dtype=np.float64)
    padded = 4 * w.shape[0]
    spectra = np.abs(np.fft.rfft(w.reshape(w.shape[0], -1), n=padded, axis=0))
    # Each source against its own peak: a weak one is as wrong as a strong one.
    audible = (spectra >= spectra.max(axis=0) * 10.0 ** (level / 20.0)) & (spectra > 0.0)
    found = np.flatnonzero(audible.any(axis=1))
    return float(found[-1] / (padded * time_step)) if found.size else 0.0
