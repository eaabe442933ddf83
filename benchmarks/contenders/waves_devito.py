"""Devito's gradient of the wave job: the acoustic equation with a sponge, in the form of Devito's tutorials.

What differs from Thalweg's job: the 20 cells around are a sponge (one damping term) instead of a PML; sources and
receivers are interpolated linearly (on grid points, as here, that changes no value); the two shots run in turn, each
on all OpenMP threads; the gradient correlates u with ∂²v/∂t², which is exact up to the ends of the record; the misfit
is NumPy's. Devito is asked to tune itself in the warm-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.contenders.wave_job import WaveJob
from benchmarks.contenders.worker import Round, serve, timed


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import devito
    from devito import ConditionalDimension, Eq, Function, Grid, Inc, Operator, SparseTimeFunction, TimeFunction, solve

    devito.configuration["log-level"] = "ERROR"
    devito.configuration["language"] = "openmp"
    job = WaveJob(**settings)
    cells = job.cells + 2 * job.layer
    size = (cells - 1) * job.spacing
    shift = -job.layer * job.spacing
    grid = Grid(shape=(cells, cells), extent=(size, size), origin=(shift, shift), dtype=np.float32)
    step = grid.stepping_dim.spacing
    samples = job.steps + 2  # the loops below run over samples 1 to steps; step n of the job is sample n + 1

    m = Function(name="m", grid=grid, space_order=2)  # 2 is what injection asks for
    damp = Function(name="damp", grid=grid, space_order=0)
    damp.data[:] = _sponge(job)
    kept = {"time_dim": grid.time_dim, "save": samples}
    if job.save_every > 1:
        kept["time_dim"] = ConditionalDimension("t_kept", parent=grid.time_dim, factor=job.save_every)
        kept["save"] = samples // job.save_every + 1
    u = TimeFunction(name="u", grid=grid, time_order=2, space_order=job.order)
    v = TimeFunction(name="v", grid=grid, time_order=2, space_order=job.order)
    history = TimeFunction(name="history", grid=grid, time_order=0, space_order=0, **kept)
    image = Function(name="image", grid=grid, space_order=0)
    source = SparseTimeFunction(name="source", grid=grid, npoint=1, nt=samples)
    traces = SparseTimeFunction(name="traces", grid=grid, npoint=job.cells, nt=samples)
    source.data[1:-1, 0] = job.wavelet / job.spacing**2
    traces.coordinates.data[:] = job.receiver_cells * job.spacing

    ahead = [
        Eq(u.forward, solve(m * u.dt2 - u.laplace + damp * u.dt, u.forward)),
        source.inject(field=u.forward, expr=source * step**2 / m),
        traces.interpolate(expr=u),
    ]
    back = [
        Eq(v.backward, solve(m * v.dt2 - v.laplace + damp * v.dt.T, v.backward)),
        traces.inject(field=v.backward, expr=traces * step**2 / m),
        Inc(image, -job.save_every * history * v.dt2),
    ]
    spacings = grid.spacing_map
    simulate = Operator(ahead, subs=spacings, name="Simulate")
    simulate_and_keep = Operator([*ahead, Eq(history, u)], subs=spacings, name="SimulateAndKeep")
    correlate = Operator(back, subs=spacings, name="Correlate")
    span = {"time_m": 1, "time_M": job.steps, "dt": job.time_step}

    def run(operator: Operator, shot: int, **options: Any) -> None:
        u.data_with_halo[:] = 0.0
        source.coordinates.data[:] = job.source_cells[shot] * job.spacing
        operator.apply(**span, **options)

    def use(model: Any) -> None:
        m.data[:] = 1.0 / job.pad(model) ** 2

    use(job.truth)
    observed = []
    for shot in range(len(job.source_cells)):
        run(simulate, shot)
        observed.append(np.array(traces.data[1:-1]))

    def gradient(**options: Any) -> Any:
        image.data_with_halo[:] = 0.0
        for shot, wanted in enumerate(observed):
            run(simulate_and_keep, shot, **options)
            residual = np.array(traces.data[1:-1]) - wanted
            loss = 0.5 * float(np.square(residual, dtype=np.float64).sum())
            assert np.isfinite(loss)
            traces.data[:] = 0.0
            traces.data[1:-1] = residual
            v.data_with_halo[:] = 0.0
            correlate.apply(**span, **options)
        inner = slice(job.layer, -job.layer)
        # From the gradient with respect to m = 1/c² to that with respect to c.
        return np.array(image.data[inner, inner]) * (-2.0 / job.start**3)

    use(job.start)
    gradient(autotune="aggressive")
    result = gradient()
    started = []
    for shot in range(len(job.source_cells)):
        run(simulate, shot)
        started.append(np.array(traces.data[1:-1]))
    facts = job.leave("Devito", np.stack(started), result) | {"version": devito.__version__}
    return facts, lambda: {"samples": timed(gradient, at_least=job.at_least)}


def _sponge(job: WaveJob) -> Any:
    """Return damping / c², s/m², zero in the model and rising smoothly into the layer, made for 1e-3 at the edge."""
    depth = np.zeros(job.cells + 2 * job.layer)
    depth[: job.layer] = np.arange(job.layer, 0, -1) / job.layer
    depth[-job.layer :] = depth[: job.layer][::-1]
    profile = depth - np.sin(2.0 * np.pi * depth) / (2.0 * np.pi)
    speed = float(job.start.mean())
    strongest = 2.0 * speed * np.log(1e3) / (job.layer * job.spacing)
    return strongest * np.maximum(profile[:, None], profile[None, :]) / speed**2


if __name__ == "__main__":
    serve("devito", setup)
