"""The acoustic wave equation of constant density in two dimensions, as an operator of the adjoint graph.

::

    (1/c²) ∂²u/∂t² − ∇²u = Σ_k s_k(t) δ(x − x_k),   d_r(t) = u(x_r, t)

Leapfrog in time, order 4 or 8 in space, a convolutional PML around (`absorbing`), sources and receivers anywhere
between the cells (`Grid.points`). The adjoint is that of the *discrete* scheme, with respect to the sound speed and to
the wavelet, exact to rounding; ``save_every = k > 1`` keeps every k-th wavefield only, which approximates the
gradient with respect to the sound speed (not the one with respect to the wavelet) and divides the memory by k.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from thalweg.errors import PositionError, ShapeError, SimulationError
from thalweg.graph import Call, Operator, Variable
from thalweg.problems.waves import absorbing, kernels, stability
from thalweg.problems.waves.grid import Grid, Points
from thalweg.problems.waves.stencils import SPACE_ORDERS, first_derivative, second_derivative

_FIXED = frozenset({"grid", "time_step", "steps", "order", "save_every", "frequency", "min_points_per_wavelength"})
LAYER_ORDER = 4  # of the first derivatives in the absorbing terms; higher ones cost more and absorb no better


@dataclass(frozen=True)
class Shot:
    """One experiment: where it is driven and where it is heard, on which grid. Made by `Propagator.shot`."""

    grid: Grid
    sources: Points
    receivers: Points


class _Lease:
    """A buffer on loan from a pool: it goes back when nobody, the graph that saved it included, refers to it."""

    def __init__(self, pool: deque[NDArray[Any]], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._pool = pool
        try:
            self.array = pool.pop()
        except IndexError:
            self.array = np.empty(shape, dtype)

    def __del__(self) -> None:
        if hasattr(self, "array"):
            self._pool.append(self.array)


class _Workspace(NamedTuple):
    """Buffers of one simulation, handed from shot to shot."""

    v: NDArray[Any]
    fields: kernels.Fields
    gradient: NDArray[Any]


class Propagator(Operator):
    """Traces at the receivers of a shot, from the sound speed and the wavelet.

    ``await propagator(vp, wavelet, shot)`` returns a Variable of shape (steps, receivers): the pressure at times
    0, Δt, ... The arguments:

    - ``vp``: Variable, the sound speed, m/s, shape ``grid.shape``, float32 or float64;
    - ``wavelet``: Variable, same dtype, shape (steps,), which drives all sources alike, or (steps, sources); the source
      is s(t) δ(x), so in two dimensions its unit is that of the pressure;
    - ``shot``: from `shot`.

    Args:
        grid: where the model lives.
        time_step: Δt, s.
        steps: number of samples of the wavelet and of the traces.
        speed: sound speed that the absorbing layer is made for, m/s (the background's).
        frequency: dominant frequency of the wavelets, Hz, for the absorbing layer.
        order: space order, 4 or 8.
        save_every: keep every k-th wavefield for the gradient; 1 is exact.
        min_points_per_wavelength: refuse wavelets which reach (−40 dB) shorter wavelengths; by default 6 at order 4
            and 3.6 at order 8.

    Raises:
        SimulationError: here, for settings that make no simulation; when called, before anything is computed:
            `ShapeError`, `SpeedError`, `UnstableTimeStepError`, `DispersionError`.

    >>> import numpy as np, thalweg as tw
    >>> from thalweg.problems.waves import Grid, Propagator, ricker
    >>> grid = Grid((40, 50), spacing=10.0)
    >>> propagator = Propagator(grid, time_step=1e-3, steps=300, speed=2000.0, frequency=12.0)
    >>> vp = tw.Variable(np.full(grid.shape, 2000.0), name="vp", needs_grad=True)
    >>> wavelet = tw.Variable(ricker(12.0, 1e-3, 300), name="wavelet")
    >>> traces = tw.wait(propagator(vp, wavelet, propagator.shot([(200.0, 250.0)], [(205.0, 333.3)])))
    >>> traces.shape
    (300, 1)
    >>> tw.wait(traces.adjoint(np.ones((300, 1))))
    >>> vp.grad.shape
    (40, 50)

    Reference: the scheme is standard (Cohen 2002); the layer Pasalic & McGarry (2010), the points Hicks (2002).
    """

    blocking = True

    def __init__(
        self,
        grid: Grid,
        *,
        time_step: float,
        steps: int,
        speed: float,
        frequency: float,
        order: int = 8,
        save_every: int = 1,
        min_points_per_wavelength: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        for setting, value, least in (("order", order, 4), ("steps", steps, 2), ("save_every", save_every, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SimulationError(f"{setting} must be an integer of at least {least}, got {value!r}.")
        if order not in SPACE_ORDERS:
            raise SimulationError(f"order must be one of {SPACE_ORDERS}, got {order}.")
        if grid.free_surface and grid.shape[0] < order // 2:
            raise SimulationError(
                f"Under a free surface order {order} needs at least {order // 2} rows of cells, the grid has "
                f"{grid.shape[0]}."
            )
        self.grid = grid
        self.frequency = frequency
        self.time_step = time_step
        self.steps = steps
        self.order = order
        self.save_every = save_every
        if min_points_per_wavelength is None:
            min_points_per_wavelength = stability.MIN_POINTS_PER_WAVELENGTH[order]
        if not (np.isfinite(min_points_per_wavelength) and min_points_per_wavelength > 0.0):
            raise SimulationError(f"min_points_per_wavelength must be positive, got {min_points_per_wavelength}.")
        self.min_points_per_wavelength = min_points_per_wavelength
        absorbing.check_positive(speed=speed, frequency=frequency)
        stability.check_time_step(time_step, speed, grid.spacing, order)
        self._profiles = absorbing.profiles(grid, time_step, speed=speed, frequency=frequency)
        self._halo = order // 2
        rows, columns = grid.padded_shape
        self._row = -(-(columns + 2 * self._halo) // 16) * 16  # whole vectors, whatever the precision
        self._cells = (rows + 2 * self._halo) * self._row
        # Scratch, not state: a workspace is taken whole by one call and handed back when that call is done with it.
        self._workspaces: dict[np.dtype[Any], deque[_Workspace]] = {}
        self._stores: dict[np.dtype[Any], deque[NDArray[Any]]] = {}
        self._sealed = True

    def __setattr__(self, attribute: str, value: Any) -> None:
        # The layer and the buffers were made for these settings; with others they would be silently wrong.
        if attribute in _FIXED and getattr(self, "_sealed", False):
            raise SimulationError(f"{attribute} of a Propagator cannot be changed; make a new Propagator.")
        super().__setattr__(attribute, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the buffers behind: another process makes its own."""
        return {**self.__dict__, "_workspaces": {}, "_stores": {}}

    def shot(self, sources: ArrayLike, receivers: ArrayLike) -> Shot:
        """Return the shot with these positions, (n, 2) in m, anywhere inside the padded grid.

        Raises:
            PositionError: for positions outside.
        """
        return Shot(self.grid, self.grid.points(sources, "sources"), self.grid.points(receivers, "receivers"))

    def memory(self, dtype: DTypeLike = np.float32, *, gradient: bool = True) -> int:
        """Return the bytes that one shot needs at a time, without its traces."""
        item = np.dtype(dtype).itemsize
        stored = -(-(self.steps - 1) // self.save_every) if gradient else 0
        return (12 + stored) * self._cells * item

    def forward(self, vp: Variable, wavelet: Variable, shot: Shot, *, call: Call) -> Variable:
        """See the class."""
        signal = self._checked(vp, wavelet, shot)
        traces = np.empty((self.steps, len(shot.receivers.offsets) - 1), vp.dtype)
        space = self._workspace(vp.data)
        keep = vp.needs_grad
        stored = self._store(vp.dtype) if keep else None
        kernels.forward(
            self._scheme(space.v),
            space.fields,
            self._taps(shot.sources, vp.dtype),
            signal,
            self._taps(shot.receivers, vp.dtype),
            traces,
            np.empty((1, 1), vp.dtype) if stored is None else stored.array,
            self.save_every if keep else 0,
        )
        self._workspaces[vp.dtype].append(space)
        call.save(stored)
        return Variable(traces)

    def adjoint(self, d_traces: NDArray[Any], vp: Variable, wavelet: Variable, shot: Shot, *, call: Call) -> Any:
        """Return the gradients with respect to ``vp`` (grid.shape) and ``wavelet`` (as it came)."""
        (stored,) = call.saved
        space = self._workspace(vp.data)
        space.gradient.fill(0.0)
        d_signal = np.empty((self.steps, len(shot.sources.offsets) - 1), vp.dtype)
        # A model whose gradient was switched on since has nothing stored, and the graph asks for none.
        keep = stored is not None
        kernels.adjoint(
            self._scheme(space.v),
            space.fields,
            self._taps(shot.sources, vp.dtype),
            d_signal,
            self._taps(shot.receivers, vp.dtype),
            np.ascontiguousarray(d_traces),
            stored.array if keep else np.empty((1, 1), vp.dtype),
            self.save_every if keep else 0,
            space.gradient,
        )
        d_vp = None
        if keep:
            # v = (c Δt / h)²: dv/dc = 2 v / c, and the kernel left the sum of v ∂J/∂v.
            padded = self._inner(space.gradient) * (2 * self.save_every) / self.grid.pad(vp.data)
            d_vp = self.grid.pad_adjoint(padded).astype(vp.dtype, copy=False)
        self._workspaces[vp.dtype].append(space)
        return d_vp, d_signal if wavelet.data.ndim == 2 else d_signal.sum(axis=1)

    def tangent(
        self,
        d_vp: NDArray[Any] | None,
        d_wavelet: NDArray[Any] | None,
        vp: Variable,
        wavelet: Variable,
        shot: Shot,
    ) -> NDArray[Any]:
        """Return the derivative of the traces in the direction (d_vp, d_wavelet); None is no change."""
        signal = self._checked(vp, wavelet, shot)
        d_signal = np.zeros_like(signal) if d_wavelet is None else self._signal(d_wavelet, signal.shape[1])
        traces = np.empty((self.steps, len(shot.receivers.offsets) - 1), vp.dtype)
        space, moved = self._workspace(vp.data), self._workspace(vp.data)
        d_v = np.zeros(self._cells, vp.dtype)
        if d_vp is not None:
            relative = self.grid.pad(d_vp) / self.grid.pad(vp.data)
            self._inner(d_v)[...] = 2 * relative * self._inner(space.v)
        kernels.tangent(
            self._scheme(space.v),
            space.fields,
            moved.fields,
            self._taps(shot.sources, vp.dtype),
            signal,
            d_v,
            d_signal,
            self._taps(shot.receivers, vp.dtype),
            traces,
        )
        self._workspaces[vp.dtype].extend((space, moved))
        return traces

    def _checked(self, vp: Variable, wavelet: Variable, shot: Shot) -> NDArray[Any]:
        """Refuse what would give a wrong number; return the wavelet as (steps, sources)."""
        grid = self.grid
        for name, given, kind in (("vp", vp, Variable), ("wavelet", wavelet, Variable), ("shot", shot, Shot)):
            if not isinstance(given, kind):
                raise SimulationError(f"{name} must be a {kind.__name__}, got {type(given).__name__}.")
        if shot.grid != grid:
            raise PositionError(f"The shot was made for another grid, {shot.grid}; this propagator's is {grid}.")
        if not isinstance(wavelet.data, np.ndarray):
            raise SimulationError(f"wavelet must hold a NumPy array, got {type(wavelet.data).__name__}.")
        if not isinstance(vp.data, np.ndarray) or vp.data.dtype not in (np.float32, np.float64):
            raise SimulationError(
                f"vp must be a float32 or float64 NumPy array, got {type(vp.data).__name__} {vp.dtype}."
            )
        grid.check_model(vp.data, vp.name or "vp")
        sources = len(shot.sources.offsets) - 1
        shape = np.shape(wavelet.data)
        if shape not in ((self.steps,), (self.steps, sources)) or wavelet.data.dtype != vp.data.dtype:
            raise ShapeError(
                f"wavelet must be {vp.dtype} of shape ({self.steps},) or ({self.steps}, {sources}), got "
                f"{wavelet.data.dtype} {shape}.",
                variable=wavelet.name or "wavelet",
            )
        if not np.isfinite(wavelet.data).all():
            raise SimulationError("wavelet holds NaN or infinity.", variable=wavelet.name or "wavelet")
        low, high = stability.check_speeds(vp.data, vp.name or "vp")
        stability.check_time_step(self.time_step, high, grid.spacing, self.order)
        stability.check_dispersion(
            wavelet.data, self.time_step, low, grid.spacing, self.order, self.min_points_per_wavelength
        )
        return self._signal(wavelet.data, sources)

    def _signal(self, wavelet: NDArray[Any], sources: int) -> NDArray[Any]:
        if wavelet.ndim == 1:
            return np.ascontiguousarray(np.broadcast_to(wavelet[:, None], (self.steps, sources)))
        return np.ascontiguousarray(wavelet)

    def _inner(self, flat: NDArray[Any]) -> NDArray[Any]:
        """View the padded grid inside a flat array with halo."""
        h = self._halo
        rows, columns = self.grid.padded_shape
        return flat.reshape(rows + 2 * h, self._row)[h : h + rows, h : h + columns]

    def _taps(self, points: Points, dtype: np.dtype[Any]) -> kernels.Taps:
        cells = (points.rows + self._halo) * self._row + points.columns + self._halo
        return kernels.Taps(points.offsets.astype(np.uint64), cells.astype(np.uint64), points.weights.astype(dtype))

    def _scheme(self, v: NDArray[Any]) -> kernels.Scheme:
        number = v.dtype.type
        h = self._halo
        rows, columns = self.grid.padded_shape
        reach = max(h, LAYER_ORDER // 2)
        (a_rows, b_rows), (a_columns, b_columns) = (
            [np.pad(profile, h).astype(v.dtype) for profile in profiles] for profiles in self._profiles
        )
        memory = absorbing.spans(self.grid, 0, 0)
        layer = absorbing.spans(self.grid, 0, reach)
        edges = [0, *(edge for span in layer for edge in span), rows]
        bare = [span for span in zip(edges[::2], edges[1::2], strict=True) if span[0] < span[1]]
        spans = (memory, layer, bare, absorbing.spans(self.grid, 1, reach))
        memory_rows, layer_rows, bare_rows, layer_columns = (
            np.array(span, np.uint64).reshape(-1, 2) + np.uint64(h) for span in spans
        )
        d2 = second_derivative(self.order)
        return kernels.Scheme(
            v,
            a_rows,
            b_rows,
            a_columns,
            b_columns,
            memory_rows,
            layer_rows,
            bare_rows,
            layer_columns,
            tuple(number(c) for c in first_derivative(LAYER_ORDER)),
            tuple(number(c) for c in d2),
            number(2.0 * d2[0]),
            first_row=np.uint64(h),
            end_row=np.uint64(h + rows),
            first_column=np.uint64(h),
            end_column=np.uint64(h + columns),
            row=np.uint64(self._row),
            free_surface=self.grid.free_surface,
        )

    def _workspace(self, vp: NDArray[Any]) -> _Workspace:
        """Return buffers at rest, with v made from ``vp``."""
        dtype = vp.dtype
        pool = self._workspaces.setdefault(dtype, deque())
        try:
            space = pool.pop()
        except IndexError:
            fields = kernels.Fields(*(np.empty((k, self._cells), dtype) for k in (2, 2, 2, 4)))
            space = _Workspace(np.zeros(self._cells, dtype), fields, np.empty(self._cells, dtype))
        for field in space.fields:
            field.fill(0.0)
        v = self._inner(space.v)
        np.multiply(self.grid.pad(vp), dtype.type(self.time_step / self.grid.spacing), out=v)
        np.multiply(v, v, out=v)
        if self.grid.free_surface:
            v[0] = 0.0
        return space

    def _store(self, dtype: np.dtype[Any]) -> _Lease:
        """Return room for the wavefields that the gradient needs."""
        pool = self._stores.setdefault(dtype, deque())
        return _Lease(pool, (-(-(self.steps - 1) // self.save_every), self._cells), dtype)
