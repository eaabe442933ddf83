"""The time loops of the acoustic propagator, its Jacobian and its adjoint, compiled by numba.

One text serves both orders and both precisions: stencils are tuples, whose length is known to the compiler. A field
is one flat array, padded by a halo of zeros (`Scheme.row` is the distance between its rows); indices are unsigned,
because signed ones keep numba's wrap-around check and are not vectorised. With v = (c Δt / h)², L the stencil and its
absorbing terms on the unit grid, and s the source (in units of h²)::

    qⁿ = L uⁿ + sⁿ,   uⁿ⁺¹ = 2uⁿ − uⁿ⁻¹ + v qⁿ

L is the transpose of itself, but for the absorbing terms, so that the adjoint field λ, carried as μ = v λ, obeys
the same recursion backwards, μⁿ = 2μⁿ⁺¹ − μⁿ⁺² + v Lᵀμⁿ⁺¹ + v rⁿ, with r the gradient of the traces; and the
gradient with respect to v is Σ λⁿ⁺¹ qⁿ = Σ μⁿ⁺¹ qⁿ / v.

Loops that do many things are split into several that write one array each: LLVM vectorises a loop only while it can
check at run time that the arrays it writes do not overlap the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "arcp", "nsz", "reassoc"})


class Scheme(NamedTuple):
    """What stays the same during a simulation; fields are flat arrays of ``(rows + 2·halo)·row`` cells."""

    v: NDArray[Any]  # (c Δt / h)², zero in the halo and on a free surface
    a: NDArray[Any]  # (2, cells) absorbing coefficients along both axes
    b: NDArray[Any]
    boxes: NDArray[np.uint64]  # (k, 6): axis, stride along it, first row, end row, first column, end column
    d1: tuple[Any, ...]  # first derivative, for the absorbing terms
    d2: tuple[Any, ...]  # second derivative
    laplacian: tuple[Any, ...]  # the same with the center counted twice
    first_row: np.uint64
    end_row: np.uint64
    first_column: np.uint64
    end_column: np.uint64
    row: np.uint64
    free_surface: bool


class Fields(NamedTuple):
    """What changes: two wavefields (even and odd steps), the memories of the layer, and two scratch arrays."""

    u: NDArray[Any]  # (2, cells)
    psi: NDArray[Any]  # (2, cells): along both axes
    zeta: NDArray[Any]
    scratch: NDArray[Any]  # (4, cells)


class Taps(NamedTuple):
    """Interpolation weights of sources or receivers, in CSR form over flat cells."""

    offsets: NDArray[np.uint64]
    cells: NDArray[np.uint64]
    weights: NDArray[Any]


@_jit
def _interior(scheme, u, u_next, q, save):  # type: ignore[no-untyped-def]
    """u_next = 2u − u_next + v L₀u, with L₀ the bare stencil; keep L₀u in q if asked to."""
    v, w, row = scheme.v, scheme.laplacian, scheme.row
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            lap = w[0] * u[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                lap += w[k] * ((u[p + o] + u[p - o]) + (u[p + o * row] + u[p - o * row]))
            if save:
                q[p] = lap
            u_next[p] = (u[p] + u[p]) - u_next[p] + v[p] * lap


@_jit
def _layer(scheme, box, u, u_next, psi, zeta, tmp, q, save):  # type: ignore[no-untyped-def]
    """Add the absorbing terms of one strip: u_next += v (∂ψ + ζ)."""
    axis = np.int64(box[0])
    s, i0, i1, j0, j1 = box[1], box[2], box[3], box[4], box[5]
    a, b, v, d1, d2, row = scheme.a[axis], scheme.b[axis], scheme.v, scheme.d1, scheme.d2, scheme.row
    for i in range(i0, i1):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * (u[p + s] - u[p - s])
            for k in range(2, len(d1)):
                o = np.uint64(k) * s
                d += d1[k] * (u[p + o] - u[p - o])
            psi[p] = b[p] * psi[p] + a[p] * d
    for i in range(i0, i1):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * (psi[p + s] - psi[p - s])
            for k in range(2, len(d1)):
                o = np.uint64(k) * s
                d += d1[k] * (psi[p + o] - psi[p - o])
            e = d + d2[0] * u[p]
            for k in range(1, len(d2)):
                o = np.uint64(k) * s
                e += d2[k] * (u[p + o] + u[p - o])
            z = b[p] * zeta[p] + a[p] * e
            zeta[p] = z
            tmp[p] = d + z
        for j in range(j0, j1):
            p = start + j
            u_next[p] += v[p] * tmp[p]
        if save:
            for j in range(j0, j1):
                p = start + j
                q[p] += tmp[p]


@_jit
def _layer_adjoint(scheme, box, mu, mu_next, psi, zeta, t1, t2):  # type: ignore[no-untyped-def]
    """Transpose of `_layer`: psi and zeta carry the adjoints of the memories backwards in time."""
    axis = np.int64(box[0])
    s, i0, i1, j0, j1 = box[1], box[2], box[3], box[4], box[5]
    a, b, v, d1, d2, row = scheme.a[axis], scheme.b[axis], scheme.v, scheme.d1, scheme.d2, scheme.row
    for i in range(i0, i1):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            z = b[p] * zeta[p] + mu[p]
            zeta[p] = z
            t1[p] = a[p] * z
    for i in range(i0, i1):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * ((mu[p + s] + t1[p + s]) - (mu[p - s] + t1[p - s]))
            for k in range(2, len(d1)):
                o = np.uint64(k) * s
                d += d1[k] * ((mu[p + o] + t1[p + o]) - (mu[p - o] + t1[p - o]))
            z = b[p] * psi[p] - d
            psi[p] = z
            t2[p] = a[p] * z
    for i in range(i0, i1):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            e = d2[0] * t1[p]
            for k in range(1, len(d2)):
                o = np.uint64(k) * s
                e += d2[k] * (t1[p + o] + t1[p - o])
            for k in range(1, len(d1)):
                o = np.uint64(k) * s
                e -= d1[k] * (t2[p + o] - t2[p - o])
            mu_next[p] += v[p] * e


@_jit
def _mirror(scheme, u):  # type: ignore[no-untyped-def]
    """Make the field odd about a free surface: the halo above it holds the negative of what is below."""
    if scheme.free_surface:
        for k in range(1, len(scheme.laplacian)):
            above = (scheme.first_row - np.uint64(k)) * scheme.row
            below = (scheme.first_row + np.uint64(k)) * scheme.row
            for j in range(scheme.row):
                u[above + j] = -u[below + j]


@_jit
def _inject(taps, values, v, u):  # type: ignore[no-untyped-def]
    for s in range(len(values)):
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            c = taps.cells[e]
            u[c] += v[c] * taps.weights[e] * values[s]


@_jit
def _inject_bare(taps, values, q):  # type: ignore[no-untyped-def]
    for s in range(len(values)):
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            q[taps.cells[e]] += taps.weights[e] * values[s]


@_jit
def _sample(taps, u, values):  # type: ignore[no-untyped-def]
    for s in range(len(values)):
        total = u.dtype.type(0)
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            total += taps.weights[e] * u[taps.cells[e]]
        values[s] = total


@_jit
def _step(scheme, fields, u, u_next, q, save):  # type: ignore[no-untyped-def]
    _mirror(scheme, u)
    _interior(scheme, u, u_next, q, save)
    for k in range(scheme.boxes.shape[0]):
        axis = np.int64(scheme.boxes[k, 0])
        _layer(
            scheme,
            scheme.boxes[k],
            u,
            u_next,
            fields.psi[axis],
            fields.zeta[axis],
            fields.scratch[0],
            q,
            save,
        )


@_jit
def forward(scheme, fields, sources, signal, receivers, traces, stored, every):  # type: ignore[no-untyped-def]
    """Run all steps: read ``signal`` (steps, sources), write ``traces`` (steps, receivers).

    ``stored`` (⌈(steps − 1)/every⌉, cells) takes every ``every``-th q; ``every`` = 0 keeps none.
    """
    steps = traces.shape[0]
    for n in range(steps):
        u, u_next = fields.u[n % 2], fields.u[(n + 1) % 2]
        _sample(receivers, u, traces[n])
        if n == steps - 1:
            break
        save = every > 0 and n % every == 0
        q = stored[n // every if save else 0]
        _step(scheme, fields, u, u_next, q, save)
        _inject(sources, signal[n], scheme.v, u_next)
        if save:
            _inject_bare(sources, signal[n], q)


@_jit
def tangent(scheme, fields, moved, sources, signal, d_v, d_signal, receivers, traces):  # type: ignore[no-untyped-def]
    """Run `forward` and its derivative in the direction (d_v, d_signal) side by side; ``traces`` takes the latter."""
    steps = traces.shape[0]
    q = fields.scratch[1]
    for n in range(steps):
        u, u_next = fields.u[n % 2], fields.u[(n + 1) % 2]
        du, du_next = moved.u[n % 2], moved.u[(n + 1) % 2]
        _sample(receivers, du, traces[n])
        if n == steps - 1:
            break
        _step(scheme, fields, u, u_next, q, True)
        _inject(sources, signal[n], scheme.v, u_next)
        _inject_bare(sources, signal[n], q)
        _step(scheme, moved, du, du_next, q, False)
        _inject(sources, d_signal[n], scheme.v, du_next)
        for p in range(len(q)):
            du_next[p] += d_v[p] * q[p]


@_jit
def adjoint(scheme, fields, sources, d_signal, receivers, residual, stored, every, gradient):  # type: ignore[no-untyped-def]
    """Transpose of `forward`: read ``residual`` (steps, receivers), write ``d_signal`` (steps, sources).

    ``gradient`` (cells) gains Σ μⁿ⁺¹ qⁿ over the steps that were stored, none if ``every`` is 0.
    """
    steps = residual.shape[0]
    d_signal[steps - 1] = 0
    _inject(receivers, residual[steps - 1], scheme.v, fields.u[(steps - 1) % 2])
    for m in range(1, steps):
        n = steps - 1 - m
        mu, mu_next = fields.u[(n + 1) % 2], fields.u[n % 2]
        _sample(sources, mu, d_signal[n])
        if every > 0 and n % every == 0:
            q = stored[n // every]
            for p in range(len(q)):
                gradient[p] += mu[p] * q[p]
        _mirror(scheme, mu)
        _interior(scheme, mu, mu_next, gradient, False)
        for k in range(scheme.boxes.shape[0]):
            axis = np.int64(scheme.boxes[k, 0])
            _layer_adjoint(
                scheme,
                scheme.boxes[k],
                mu,
                mu_next,
                fields.psi[axis],
                fields.zeta[axis],
                fields.scratch[axis],
                fields.scratch[2 + axis],
            )
        _inject(receivers, residual[n], scheme.v, mu_next)
