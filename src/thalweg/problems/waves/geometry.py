"""Where transducers sit: positions are arrays (n, 2) in m, in the order of the model's axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import SimulationError


def ring_array(count: int, radius: float, center: ArrayLike) -> NDArray[np.float64]:
    """Return ``count`` positions evenly spaced on a circle, the first at angle 0 (along the second axis).

    Args:
        count: number of transducers, at least 1.
        radius: m.
        center: two coordinates, m.

    Returns:
        Array (count, 2), m.

    >>> ring_array(4, 1.0, (2.0, 2.0)).round(6).tolist()
    [[2.0, 3.0], [3.0, 2.0], [2.0, 1.0], [1.0, 2.0]]
    """
    _check_count(count)
    if not (np.isfinite(radius) and radius > 0.0):
        raise SimulationError(f"radius must be a positive number of m, got {radius}.")
    angles = 2.0 * np.pi * np.arange(count) / count
    return _point(center, "center") + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)


def line_array(count: int, start: ArrayLike, stop: ArrayLike) -> NDArray[np.float64]:
    """Return ``count`` positions evenly spaced from ``start`` to ``stop``, both included.

    Args:
        count: number of transducers, at least 1.
        start: two coordinates, m.
        stop: two coordinates, m.

    Returns:
        Array (count, 2), m.

    >>> line_array(3, (0.0, 0.0), (0.0, 10.0)).tolist()
    [[0.0, 0.0], [0.0, 5.0], [0.0, 10.0]]
    """
    _check_count(count)
    return np.linspace(_point(start, "start"), _point(stop, "stop"), count)


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SimulationError(f"count must be an integer of at least 1, got {count!r}.")


def _point(value: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        point = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        point = np.empty(0)
    if point.shape != (2,) or not np.isfinite(point).all():
        raise SimulationError(f"{name} must be two numbers of m, got {value!r}.")
    return point
