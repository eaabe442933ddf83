"""Thalweg's gradient of the wave job, as a user gets it: graph, propagator, misfit, adjoint run, one shot a thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.contenders.wave_job import WaveJob
from benchmarks.contenders.worker import Round, serve, timed


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import thalweg as tw
    from thalweg.problems.waves import Grid, L2Misfit, Propagator
    from thalweg.runtime import Local

    job = WaveJob(**settings)
    grid = Grid((job.cells, job.cells), job.spacing, absorbing=job.layer)
    propagator = Propagator(
        grid,
        time_step=job.time_step,
        steps=job.steps,
        speed=2000.0,
        frequency=job.frequency,
        order=job.order,
        save_every=job.save_every,
    )
    misfit = L2Misfit()
    runtime = Local(threads=job.threads)
    sources, receivers = job.source_cells * job.spacing, job.receiver_cells * job.spacing
    wavelet, start, truth = job.wavelet, job.start, job.truth

    async def simulate(model: Any, shot: int) -> tw.Variable:
        geometry = propagator.shot(sources[shot : shot + 1], receivers)
        traces: tw.Variable = await propagator(model, tw.Variable(wavelet, name="wavelet"), geometry)
        return traces

    observed = [tw.wait(simulate(tw.Variable(truth, name="truth"), shot)).data for shot in range(len(sources))]

    async def feedback(shot: int) -> dict[str, Any]:
        vp = tw.Variable(start, name="vp", needs_grad=True)
        loss = await misfit(await simulate(vp, shot), observed[shot])
        await loss.adjoint()
        return {"loss": float(loss.data), "gradient": vp.grad}

    def gradient() -> Any:
        return tw.wait(runtime.map_reduce(lambda shot: tw.wait(feedback(shot)), range(len(sources))))["gradient"]

    result = gradient()
    started = [tw.wait(simulate(tw.Variable(start, name="vp"), shot)).data for shot in range(len(sources))]
    facts = job.leave("thalweg", np.stack(started), result) | {"version": tw.__version__}
    return facts, lambda: {"samples": timed(gradient, at_least=job.at_least)}


if __name__ == "__main__":
    serve("thalweg", setup)
