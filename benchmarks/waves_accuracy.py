"""Does the propagator solve the wave equation? Against the Green's function, and against a domain without edges.

For a source s(t) δ(x) in (1/c²) ∂²u/∂t² − ∇²u in the plane, u = s ∗ g with ĝ(ω) = (i/4) H₀⁽¹⁾(ω r / c) for the time
factor exp(−iωt) (for instance Morse & Feshbach 1953, section 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import cos, sin
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import thalweg as tw
from benchmarks.figures import Figure, Target
from thalweg.problems.waves import Grid, Propagator, ricker

SPEED = 2000.0  # m/s
FREQUENCY = 12.0  # Hz
ORDERS = (4, 8)


def figures() -> Iterator[Figure]:
    """Yield the figures of accuracy."""
    for order, place in product(ORDERS, ("on", "off")):
        yield Figure(
            f"error against the Green's function, order {order}, {place} grid points",
            (100.0 * greens_function_error(order, place),),
            unit="%",
            target=Target(high=0.5),
            note="relative L2, 600 m, 1 s, h = 5 m, Δt = 0.5 ms",
        )
    for order in ORDERS:
        yield Figure(
            f"error against an enlarged domain, order {order}, 20 absorbing cells",
            (100.0 * enlarged_domain_error(order),),
            unit="%",
            target=Target(high=0.3),
            note="relative L2, 1.5 s, h = 10 m, Δt = 1 ms, 556 receivers all round",
        )


def greens_function_error(order: int, place: str) -> float:
    """Return the relative L2 error of one trace of 1 s at 600 m, source and receiver on or off grid points."""
    step, steps, offset = 5e-4, 2000, 600.0
    source, angle = (np.array([100.0, 100.0]), 0.0) if place == "on" else (np.array([102.3, 98.9]), 0.4)
    grid = Grid((161, 81), 5.0)
    receiver = source + offset * np.array([cos(angle), sin(angle)])
    signal = ricker(FREQUENCY, step, steps)
    trace = simulate(grid, step, signal, order, [source], [receiver])[:, 0]
    return _relative(trace, greens_function_trace(signal, step, offset))


def greens_function_trace(signal: NDArray[Any], step: float, offset: float) -> NDArray[Any]:
    """Return s ∗ g at a distance of ``offset`` m, sampled like the signal (steps,)."""
    from scipy.special import hankel1

    padded = 16 * len(signal)  # the tail behind a wave in two dimensions is long, and must not wrap around
    omega = 2.0 * np.pi * np.fft.rfftfreq(padded, step)[1:]
    g = np.concatenate([[0.0], 0.25j * hankel1(0, omega * offset / SPEED)])
    # NumPy's transform has the time factor exp(+iωt): the conjugate.
    return np.fft.irfft(np.fft.rfft(signal, padded) * g.conj(), padded)[: len(signal)]


def enlarged_domain_error(order: int) -> float:
    """Return the relative L2 difference of the traces from those of a domain whose edges are too far to be heard."""
    step, steps, cells, spacing = 1e-3, 1500, 150, 10.0
    signal = ricker(FREQUENCY, step, steps)
    along = np.arange(5, cells - 5)
    near, far = 5, cells - 6
    ring = [(near, j) for j in along] + [(far, j) for j in along]
    ring += [(i, near) for i in along[1:-1]] + [(i, far) for i in along[1:-1]]
    center = np.full(2, (cells - 1) / 2)

    def traces(extra: int) -> NDArray[Any]:
        grid = Grid((cells + 2 * extra, cells + 2 * extra), spacing)
        shift = np.array([extra, extra])
        return simulate(grid, step, signal, order, [(center + shift) * spacing], (np.array(ring) + shift) * spacing)

    # From the source to the far edge and back to the nearest receiver is 800 m + 2 · 1200 m, at least 1.6 s.
    return _relative(traces(0), traces(120))


def simulate(
    grid: Grid, step: float, signal: NDArray[Any], order: int, sources: ArrayLike, receivers: ArrayLike
) -> NDArray[Any]:
    """Return the traces (steps, receivers) in a homogeneous medium."""
    propagator = Propagator(grid, time_step=step, steps=len(signal), speed=SPEED, frequency=FREQUENCY, order=order)
    vp = tw.Variable(np.full(grid.shape, SPEED), name="vp")
    traces = tw.wait(propagator(vp, tw.Variable(signal, name="wavelet"), propagator.shot(sources, receivers)))
    return np.asarray(traces.data)


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
