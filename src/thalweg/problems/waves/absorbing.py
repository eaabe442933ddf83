"""The convolutional perfectly matched layer (CPML), for the wave equation of second order.

Inside the layer each ∂ₓ becomes ∂ₓ + (memory of ∂ₓ). With ψ and ζ the memories of the first and the second
application (Pasalic & McGarry 2010; Komatitsch & Martin 2007, eq. 21-25)::

    ψⁿ = b ψⁿ⁻¹ + a ∂ₓuⁿ
    ζⁿ = b ζⁿ⁻¹ + a (∂ₓ²uⁿ + ∂ₓψⁿ)          ∂ₓ²u becomes ∂ₓ²u + ∂ₓψ + ζ
    b = exp(−(σ + α) Δt),  a = σ / (σ + α) (b − 1)

with damping σ rising and frequency shift α falling into the layer. Outside the layer a = 0, so ψ = ζ = 0 and the
scheme is the bare stencil there.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import SimulationError
from thalweg.problems.waves.grid import Grid

REFLECTION = 1e-5  # target reflection at normal incidence, which sets the largest damping
POWER = 3  # σ rises with this power of the depth into the layer


def check_positive(*, speed: float, frequency: float) -> None:
    """Raise `SimulationError` unless both, m/s and Hz, are finite and positive."""
    for name, value in (("speed", speed), ("frequency", frequency)):
        if not (np.isfinite(value) and value > 0.0):
            raise SimulationError(f"The absorbing layer needs a positive {name}, got {value}.")


def profiles(
    grid: Grid, time_step: float, *, speed: float, frequency: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (a, b) along both axes of the padded grid.

    σ = σ₀ (d/L)³, σ₀ = −4 c ln(R) / 2L, and α = π f (1 − d/L), with d the depth into a layer of thickness L.

    Args:
        grid: the grid; its ``absorbing`` cells are the layer.
        time_step: s.
        speed: sound speed c that the damping is made for, m/s.
        frequency: dominant frequency f, Hz.

    Raises:
        SimulationError: for a speed or frequency that is not positive.
    """
    check_positive(speed=speed, frequency=frequency)
    out = []
    for axis in (0, 1):
        before, after = grid.margins[axis]
        depth = np.zeros(grid.padded_shape[axis])
        for cells, side in ((before, depth), (after, depth[::-1])):
            if cells:
                side[:cells] = np.arange(cells, 0, -1) / cells
        thickness = max(grid.absorbing, 1) * grid.spacing
        sigma = -(POWER + 1) * speed * log(REFLECTION) / (2.0 * thickness) * depth**POWER
        alpha = np.where(depth > 0.0, pi * frequency * (1.0 - depth), 0.0)
        total = sigma + alpha
        b = np.exp(-total * time_step)
        a = np.divide(sigma, total, out=np.zeros_like(total), where=total > 0.0) * (b - 1.0)
        out.append((a, b))
    return out


def spans(grid: Grid, axis: int, reach: int) -> list[tuple[int, int]]:
    """Return the (first, end) cells along an axis of the padded grid that the layer or its stencils touch.

    ``reach`` cells beyond the layer are included; spans that meet are merged.
    """
    size = grid.padded_shape[axis]
    before, after = grid.margins[axis]
    found = [(0, min(before + reach, size))] if before else []
    found += [(max(size - after - reach, 0), size)] if after else []
    if len(found) == 2 and found[0][1] >= found[1][0]:
        found = [(0, size)]
    return found
