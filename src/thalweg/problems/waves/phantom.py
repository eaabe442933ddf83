"""Objects to image: a disk, and a head in water made from the MRI slice that Matplotlib bundles, without its skull."""

from __future__ import annotations

import gzip

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import StudyError
from thalweg.problems.waves.grid import Grid

WATER = 1500.0  # m/s
SQUARE = 0.256  # m, the side of the scanned square
SLICE_FRACTION = 0.8  # of the square's side that the slice fills
PIXELS = 256
SMOOTHING = 1e-3  # m, the standard deviation of the last smoothing: a cell of the demonstration's grid


def _slice() -> NDArray[np.float64]:
    """Return the intensities of the slice, (256, 256), divided by their maximum, smoothed over a pixel."""
    from pathlib import Path

    from matplotlib import get_data_path
    from scipy import ndimage

    try:
        raw = Path(get_data_path(), "sample_data", "s1045.ima.gz").read_bytes()
    except FileNotFoundError as error:
        raise StudyError(
            "The head phantom needs the MRI slice s1045.ima.gz among Matplotlib's sample data, and this installation "
            "of Matplotlib has none; install Matplotlib from its wheel."
        ) from error
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    intensity = np.frombuffer(raw, dtype=">u2").reshape(PIXELS, PIXELS).astype(np.float64)
    return np.asarray(ndimage.gaussian_filter(intensity / intensity.max(), 1.0))


def inclusion(
    grid: Grid, *, background: float, speed: float, center: tuple[float, float], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a disk of another sound speed in a uniform background, m/s, and where errors are measured.

    The speed changes over one cell at the rim, linearly with the distance from the center. Errors are measured up to
    twice the radius: inside the disk alone a constant would be the truth.

    Args:
        grid: where to sample it.
        background: m/s.
        speed: of the disk, m/s.
        center: m.
        radius: m.

    >>> from thalweg.problems.waves import Grid
    >>> c, inside = inclusion(Grid((9, 9), 1.0), background=1500.0, speed=1550.0, center=(4.0, 4.0), radius=2.0)
    >>> float(c[4, 4]), float(c[0, 0]), int(inside.sum())
    (1550.0, 1500.0, 49)
    """
    z, x = (np.arange(n) * grid.spacing for n in grid.shape)
    depth = radius - np.hypot(z[:, None] - center[0], x[None, :] - center[1])  # below the rim
    part = np.clip(0.5 + depth / grid.spacing, 0.0, 1.0)
    return background + (speed - background) * part, depth >= -radius


def head(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the sound speed of the head in water, m/s, and where the head is, both of shape ``grid.shape``.

    With the intensity I of the slice at a cell, the head is where I > 0.06; the sound speed there is
    1460 + 240 min(I, 0.65) clipped to 1450–1620 m/s, and 1500 m/s in the water; then a Gaussian of 1 mm smooths it.
    The slice fills 80 % of a square of 256 mm whose center is that of the grid.

    Args:
        grid: at least 205 mm along both axes, or the head is cut off (a `StudyError`).

    >>> from thalweg.problems.waves import Grid
    >>> speed, inside = head(Grid((128, 128), spacing=2e-3))
    >>> bool(inside.any()), float(speed[0, 0])
    (True, 1500.0)
    """
    from scipy import ndimage

    side = SLICE_FRACTION * SQUARE
    if min(grid.extent) < side - 2.0 * grid.spacing:
        raise StudyError(f"The head needs {side} m along both axes, the grid has {grid.extent} m.")
    pitch = side / PIXELS
    axes = [
        (np.arange(n) * grid.spacing - 0.5 * extent) / pitch + 0.5 * (PIXELS - 1)
        for n, extent in zip(grid.shape, grid.extent, strict=True)
    ]
    intensity = ndimage.map_coordinates(_slice(), np.meshgrid(*axes, indexing="ij"), order=1, mode="constant")
    inside = intensity > 0.06
    tissue = np.clip(1460.0 + 240.0 * np.minimum(intensity, 0.65), 1450.0, 1620.0)
    speed = ndimage.gaussian_filter(np.where(inside, tissue, WATER), SMOOTHING / grid.spacing, mode="nearest")
    return speed, inside
