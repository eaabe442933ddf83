"""What the scheme can be trusted with: the largest stable time step, and its dispersion.

With the symbol S of the negative second difference (`stencils.symbol`), a plane wave of phases (p, q) radians a cell
obeys the discrete dispersion relation of the leapfrog scheme (for instance Cohen 2002, chapter 6)::

    sin²(ω Δt / 2) = (c Δt / 2h)² (S(p) + S(q))

It is stable while the right-hand side stays ≤ 1 for all phases, and its phase velocity differs from c by the ratio of
the ω that solves it to c·|k|.
"""

from __future__ import annotations

from collections.abc import Callable
from math import asin, cos, floor, log10, nan, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DispersionError, SimulationError, SpeedError, StudyError, UnstableTimeStepError
from thalweg.problems.waves.stencils import symbol
from thalweg.problems.waves.wavelets import highest_frequency

# Points in the wavelength of the −40 dB frequency, where a wavelet hardly has energy. There the stencil alone makes
# the phase velocity wrong by up to 0.3 % at order 4 and 0.7 % at order 8; the time step adds (ω Δt)² / 24.
MIN_POINTS_PER_WAVELENGTH = {4: 6.0, 8: 3.6}

_GUESSES = 8  # each lower than the one before by a fifth

# Below it a speed in m/s is more likely one in km/s.
SLOW = 50.0


def unit_hint(speed: float) -> str:
    """Return the question, as a sentence to add, whether a speed was given in km/s; nothing where it is none.

    >>> unit_hint(1500.0), unit_hint(1.5)
    ('', ' Speeds are in m/s: is 1.5 in km/s?')
    """
    return f" Speeds are in m/s: is {speed:.6g} in km/s?" if speed < SLOW else ""


def largest_stable_step(max_speed: float, spacing: float, order: int) -> float:
    """Return the largest stable time step in s, 2h / (c √(2 S(π))).

    Args:
        max_speed: largest sound speed, m/s.
        spacing: grid spacing h, m.
        order: space order, 4 or 8.

    >>> round(largest_stable_step(2000.0, 10.0, 8) * 1e3, 3)
    2.773
    """
    return 2.0 * spacing / (max_speed * sqrt(2.0 * symbol(order, pi)))


def phase_velocity_error(frequency: float, speed: float, spacing: float, time_step: float, order: int) -> float:
    """Return the largest relative error of the phase velocity over all directions, or NaN where no wave propagates.

    Args:
        frequency: Hz.
        speed: sound speed, m/s.
        spacing: grid spacing, m.
        time_step: s.
        order: space order, 4 or 8.

    >>> phase_velocity_error(12.0, 2000.0, 5.0, 5e-4, 8) < 1e-4
    True
    """
    k_h = 2.0 * pi * frequency * spacing / speed
    courant = speed * time_step / spacing
    worst = 0.0
    for angle in np.linspace(0.0, pi / 4.0, 10):
        root = 0.5 * courant * sqrt(symbol(order, k_h * cos(angle)) + symbol(order, k_h * sin(angle)))
        if root > 1.0:
            return nan
        worst = max(worst, abs(2.0 * asin(root) / (courant * k_h) - 1.0))
    return worst


def check_speeds(speed: NDArray[np.floating], name: str = "vp") -> tuple[float, float]:
    """Return the least and the largest speed, m/s; raise `SpeedError` unless all are finite and positive."""
    bad = ~np.isfinite(speed)
    bad |= speed <= 0.0
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise SpeedError(
            f"{name}: {int(bad.sum())} of {speed.size} sound speeds are not finite and positive; the first is "
            f"{speed[where]} at {where}. Sound speeds are in m/s; check the model or bound the updates "
            "(process_model=bounds(low, high)).",
            variable=name,
            count=int(bad.sum()),
            first=where,
        )
    return float(speed.min()), float(speed.max())


def check_range(least: float, most: float, speeds: tuple[float, float], dtype: np.dtype[np.floating]) -> None:
    """Raise `StudyError` where the starting model, from ``least`` to ``most`` m/s, is outside of ``speeds``."""
    low, high = (float(dtype.type(speed)) for speed in speeds)  # as the model is rounded
    if least < low or most > high:
        raise StudyError(
            f"problem.speeds: the starting model goes from {least:.6g} to {most:.6g} m/s, and may be "
            f"{speeds[0]:.6g} to {speeds[1]:.6g} m/s only; give speeds that hold it.{unit_hint(min(least, *speeds))}",
            least=least,
            most=most,
        )


def check_time_step(time_step: float, max_speed: float, spacing: float, order: int) -> None:
    """Raise `UnstableTimeStepError` where the scheme would blow up, `SimulationError` for what is no time step."""
    if not (np.isfinite(time_step) and time_step > 0.0):
        raise SimulationError(f"time_step must be a positive number of seconds, got {time_step}.")
    largest = largest_stable_step(max_speed, spacing, order)
    if not time_step <= largest:
        raise UnstableTimeStepError(
            f"The time step {time_step:.6g} s is unstable: with speeds up to {max_speed:.6g} m/s, a spacing of "
            f"{spacing:.6g} m and space order {order} the largest stable one is {largest:.6g} s.",
            largest=largest,
        )


def resolution(
    wavelet: NDArray[np.floating], time_step: float, min_speed: float, spacing: float
) -> tuple[float, float]:
    """Return the −40 dB frequency of a wavelet, Hz, and how many grid points its shortest wavelength has.

    >>> from thalweg.problems.waves.wavelets import ricker
    >>> frequency, points = resolution(ricker(12.0, 1e-3, 512), 1e-3, 2000.0, 10.0)
    >>> 25.0 < frequency < 40.0, round(points * frequency * 10.0) == 2000
    (True, True)
    """
    frequency = highest_frequency(wavelet, time_step)
    return (frequency, min_speed / (frequency * spacing)) if frequency else (0.0, float("inf"))


def round_down(value: float) -> float:
    """Return a positive number with three digits, none above it.

    >>> round_down(13.79), round_down(97777.0), round_down(5.0)
    (13.7, 97700.0, 5.0)
    """
    rounded = float(f"{value:.2e}")
    return rounded if rounded <= value else float(f"{value - 0.5 * 10.0 ** (floor(log10(value)) - 2):.2e}")


def highest_that_fits(fits: Callable[[float], bool], above: float, near: float) -> float | None:
    """Return about the highest frequency, Hz, three digits, that ``fits``; None if none does that is worth it.

    Args:
        fits: whether a frequency does.
        above: one that does not.
        near: a guess of the highest that does, below ``above``.

    >>> highest_that_fits(lambda frequency: frequency < 13.675, above=40.0, near=12.0)
    13.6
    """
    low = near
    for _ in range(_GUESSES):
        if fits(low):
            break
        above, low = low, 0.8 * low
    else:
        return None
    while above - low > 1e-3 * low:
        middle = 0.5 * (low + above)
        low, above = (middle, above) if fits(middle) else (low, middle)
    rounded = round_down(low)
    return rounded if fits(rounded) else None


def check_dispersion(
    wavelet: NDArray[np.floating],
    time_step: float,
    min_speed: float,
    spacing: float,
    order: int,
    min_points: float,
    *,
    name: str = "the wavelet",
    advice: Callable[[], str] | None = None,
) -> tuple[float, float]:
    """Return (−40 dB frequency in Hz, points in its wavelength); raise `DispersionError` below ``min_points``.

    ``wavelet`` has shape (steps,) or (steps, sources). Silence has no frequency: (0.0, inf). ``name`` is what the
    wavelet is called, and ``advice`` says what to do in the names of a study.
    """
    frequency, points = resolution(wavelet, time_step, min_speed, spacing)
    if points < min_points:
        error = phase_velocity_error(frequency, min_speed, spacing, time_step, order)
        usable = min_speed / (min_points * spacing)
        predicted = "no propagation at all" if np.isnan(error) else f"a phase velocity wrong by {error:.2%}"
        todo = (
            f"Lower the wavelet's frequency, until no more than {usable:.6g} Hz are reached, or refine the grid."
            if advice is None
            else advice()
        )
        raise DispersionError(
            f"Too few grid points a wavelength: {name} reaches {frequency:.6g} Hz (−40 dB), which at {min_speed:.6g} "
            f"m/s and a spacing of {spacing:.6g} m gives {points:.2f} points; space order {order} needs "
            f"{min_points:g}. Predicted: {predicted}. {todo}{unit_hint(min_speed)}",
            frequency=frequency,
            largest_frequency=usable,
            points=points,
            predicted_error=error,
        )
    return frequency, points
