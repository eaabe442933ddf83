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

_FLAGS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz"}}
_jit = njit(**_FLAGS)
# Parts are inlined by force: a part called as a function may be that of another loop, optimized differently, depending
# on which was compiled or read from the cache first, and then the last bits would differ from process to process.
_part = njit(**_FLAGS, forceinline=True)


class Scheme(NamedTuple):
    """What stays the same during a simulation; fields are flat arrays of ``(rows + 2·halo)·row`` cells."""

    v: NDArray[Any]  # (c Δt / h)², zero in the halo and on a free surface
    a_rows: NDArray[Any]  # absorbing coefficients along the first axis, by row of the halo-padded array
    b_rows: NDArray[Any]
    a_columns: NDArray[Any]  # and along the second, by column
    b_columns: NDArray[Any]
    memory_rows: NDArray[np.uint64]  # (k, 2): first and end row of the layers above and below
    layer_rows: NDArray[np.uint64]  # the same with the rows that their stencils reach
    bare_rows: NDArray[np.uint64]  # all other rows
    layer_columns: NDArray[np.uint64]  # (k, 2): columns that the layers at the left and right reach
    d1: tuple[Any, ...]  # first derivative, for the absorbing terms
    d2: tuple[Any, ...]  # second derivative
    center: Any  # its middle weight twice, for both axes
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


@_part
def _bare_rows(scheme, i0, i1, u, u_next, q, save):
    """u_next = 2u − u_next + v Lu away from the layers above and below; keep Lu in q if asked to."""
    v, w, row, center = scheme.v, scheme.d2, scheme.row, scheme.center
    for i in range(i0, i1):
        start = i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            lap = center * u[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                lap += w[k] * ((u[p + o] + u[p - o]) + (u[p + o * row] + u[p - o * row]))
            if save:
                q[p] = lap
            u_next[p] = (u[p] + u[p]) - u_next[p] + v[p] * lap


@_part
def _memory_rows(scheme, i0, i1, u, psi):
    """ψ = bψ + a ∂u along the first axis, in a layer above or below."""
    d1, row = scheme.d1, scheme.row
    for i in range(i0, i1):
        a, b, start = scheme.a_rows[i], scheme.b_rows[i], i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            d = d1[1] * (u[p + row] - u[p - row])
            for k in range(2, len(d1)):
                o = np.uint64(k) * row
                d += d1[k] * (u[p + o] - u[p - o])
            psi[p] = b * psi[p] + a * d


@_part
def _layer_rows(scheme, i0, i1, u, u_next, psi, zeta, q, save):
    """`_bare_rows` where a layer above or below adds its terms ∂ψ + ζ to L."""
    v, d1, w, row = scheme.v, scheme.d1, scheme.d2, scheme.row
    for i in range(i0, i1):
        a, b, start = scheme.a_rows[i], scheme.b_rows[i], i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            d = d1[1] * (psi[p + row] - psi[p - row])
            for k in range(2, len(d1)):
                o = np.uint64(k) * row
                d += d1[k] * (psi[p + o] - psi[p - o])
            along, across = w[0] * u[p], w[0] * u[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                across += w[k] * (u[p + o] + u[p - o])
                along += w[k] * (u[p + o * row] + u[p - o * row])
            z = b * zeta[p] + a * (d + along)
            zeta[p] = z
            lap = (across + along) + (d + z)
            if save:
                q[p] = lap
            u_next[p] = (u[p] + u[p]) - u_next[p] + v[p] * lap


@_part
def _columns(scheme, j0, j1, u, u_next, psi, zeta, tmp, q, save):
    """Add the terms of the layer at the left or right: u_next += v (∂ψ + ζ)."""
    a, b, v, d1, w, row = scheme.a_columns, scheme.b_columns, scheme.v, scheme.d1, scheme.d2, scheme.row
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * (u[p + np.uint64(1)] - u[p - np.uint64(1)])
            for k in range(2, len(d1)):
                o = np.uint64(k)
                d += d1[k] * (u[p + o] - u[p - o])
            psi[p] = b[j] * psi[p] + a[j] * d
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * (psi[p + np.uint64(1)] - psi[p - np.uint64(1)])
            for k in range(2, len(d1)):
                o = np.uint64(k)
                d += d1[k] * (psi[p + o] - psi[p - o])
            e = d + w[0] * u[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                e += w[k] * (u[p + o] + u[p - o])
            z = b[j] * zeta[p] + a[j] * e
            zeta[p] = z
            tmp[j] = d + z
        for j in range(j0, j1):
            p = start + j
            u_next[p] += v[p] * tmp[j]
        if save:
            for j in range(j0, j1):
                p = start + j
                q[p] += tmp[j]


@_part
def _layer_rows_adjoint(scheme, i0, i1, mu, mu_next, t1, t2):
    """Transpose of `_layer_rows`, once `_memory_rows_adjoint` has made t1 and t2."""
    v, d1, w, row, center = scheme.v, scheme.d1, scheme.d2, scheme.row, scheme.center
    for i in range(i0, i1):
        start = i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            lap = center * mu[p] + w[0] * t1[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                lap += w[k] * ((mu[p + o] + mu[p - o]) + (mu[p + o * row] + mu[p - o * row]))
                lap += w[k] * (t1[p + o * row] + t1[p - o * row])
            for k in range(1, len(d1)):
                o = np.uint64(k) * row
                lap -= d1[k] * (t2[p + o] - t2[p - o])
            mu_next[p] = (mu[p] + mu[p]) - mu_next[p] + v[p] * lap


@_part
def _memory_rows_adjoint(scheme, i0, i1, mu, psi, zeta, t1, t2):
    """The memories of a layer above or below, backwards: ζ = bζ + μ, t1 = aζ; ψ = bψ − ∂(μ + t1), t2 = aψ."""
    d1, row = scheme.d1, scheme.row
    for i in range(i0, i1):
        a, b, start = scheme.a_rows[i], scheme.b_rows[i], i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            z = b * zeta[p] + mu[p]
            zeta[p] = z
            t1[p] = a * z
    for i in range(i0, i1):
        a, b, start = scheme.a_rows[i], scheme.b_rows[i], i * row
        for j in range(scheme.first_column, scheme.end_column):
            p = start + j
            d = d1[1] * ((mu[p + row] + t1[p + row]) - (mu[p - row] + t1[p - row]))
            for k in range(2, len(d1)):
                o = np.uint64(k) * row
                d += d1[k] * ((mu[p + o] + t1[p + o]) - (mu[p - o] + t1[p - o]))
            z = b * psi[p] - d
            psi[p] = z
            t2[p] = a * z


@_part
def _columns_adjoint(scheme, j0, j1, mu, mu_next, psi, zeta, t1, t2):
    """Transpose of `_columns`."""
    a, b, v, d1, w, row = scheme.a_columns, scheme.b_columns, scheme.v, scheme.d1, scheme.d2, scheme.row
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            z = b[j] * zeta[p] + mu[p]
            zeta[p] = z
            t1[p] = a[j] * z
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            d = d1[1] * ((mu[p + np.uint64(1)] + t1[p + np.uint64(1)]) - (mu[p - np.uint64(1)] + t1[p - np.uint64(1)]))
            for k in range(2, len(d1)):
                o = np.uint64(k)
                d += d1[k] * ((mu[p + o] + t1[p + o]) - (mu[p - o] + t1[p - o]))
            z = b[j] * psi[p] - d
            psi[p] = z
            t2[p] = a[j] * z
    for i in range(scheme.first_row, scheme.end_row):
        start = i * row
        for j in range(j0, j1):
            p = start + j
            e = w[0] * t1[p]
            for k in range(1, len(w)):
                o = np.uint64(k)
                e += w[k] * (t1[p + o] + t1[p - o])
            for k in range(1, len(d1)):
                o = np.uint64(k)
                e -= d1[k] * (t2[p + o] - t2[p - o])
            mu_next[p] += v[p] * e


@_part
def _mirror(scheme, u):
    """Make the field odd about a free surface: the halo above it holds the negative of what is below."""
    if scheme.free_surface:
        for k in range(1, len(scheme.d2)):
            above = (scheme.first_row - np.uint64(k)) * scheme.row
            below = (scheme.first_row + np.uint64(k)) * scheme.row
            for j in range(scheme.row):
                u[above + j] = -u[below + j]


@_part
def _inject(taps, values, v, u):
    for s in range(len(values)):
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            c = taps.cells[e]
            u[c] += v[c] * taps.weights[e] * values[s]


@_part
def _inject_bare(taps, values, q):
    for s in range(len(values)):
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            q[taps.cells[e]] += taps.weights[e] * values[s]


@_part
def _sample(taps, u, values):
    for s in range(len(values)):
        total = u.dtype.type(0)
        for e in range(taps.offsets[s], taps.offsets[s + 1]):
            total += taps.weights[e] * u[taps.cells[e]]
        values[s] = total


@_part
def _step(scheme, fields, u, u_next, q, save):
    """u_next = 2u − u_next + v Lu with all absorbing terms; keep Lu in q if asked to."""
    _mirror(scheme, u)
    for s in range(scheme.memory_rows.shape[0]):
        i0, i1 = scheme.memory_rows[s, 0], scheme.memory_rows[s, 1]
        _memory_rows(scheme, i0, i1, u, fields.psi[0])
    for s in range(scheme.layer_rows.shape[0]):
        i0, i1 = scheme.layer_rows[s, 0], scheme.layer_rows[s, 1]
        _layer_rows(scheme, i0, i1, u, u_next, fields.psi[0], fields.zeta[0], q, save)
    for s in range(scheme.bare_rows.shape[0]):
        i0, i1 = scheme.bare_rows[s, 0], scheme.bare_rows[s, 1]
        _bare_rows(scheme, i0, i1, u, u_next, q, save)
    for s in range(scheme.layer_columns.shape[0]):
        j0, j1 = scheme.layer_columns[s, 0], scheme.layer_columns[s, 1]
        _columns(scheme, j0, j1, u, u_next, fields.psi[1], fields.zeta[1], fields.scratch[0], q, save)


@_jit
def forward(scheme, fields, sources, signal, receivers, traces, stored, every):
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
def tangent(scheme, fields, moved, sources, signal, d_v, d_signal, receivers, traces):
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
def adjoint(scheme, fields, sources, d_signal, receivers, residual, stored, every, gradient):
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
        t1, t2 = fields.scratch[0], fields.scratch[1]
        for s in range(scheme.memory_rows.shape[0]):
            i0, i1 = scheme.memory_rows[s, 0], scheme.memory_rows[s, 1]
            _memory_rows_adjoint(scheme, i0, i1, mu, fields.psi[0], fields.zeta[0], t1, t2)
        for s in range(scheme.layer_rows.shape[0]):
            i0, i1 = scheme.layer_rows[s, 0], scheme.layer_rows[s, 1]
            _layer_rows_adjoint(scheme, i0, i1, mu, mu_next, t1, t2)
        for s in range(scheme.bare_rows.shape[0]):
            i0, i1 = scheme.bare_rows[s, 0], scheme.bare_rows[s, 1]
            _bare_rows(scheme, i0, i1, mu, mu_next, gradient, False)
        t1, t2 = fields.scratch[2], fields.scratch[3]
        for s in range(scheme.layer_columns.shape[0]):
            j0, j1 = scheme.layer_columns[s, 0], scheme.layer_columns[s, 1]
            _columns_adjoint(scheme, j0, j1, mu, mu_next, fields.psi[1], fields.zeta[1], t1, t2)
        _inject(receivers, residual[n], scheme.v, mu_next)
