"""deepwave's gradient of the wave job, on the CPU.

Like Thalweg it has a convolutional PML of 20 cells, leapfrog steps and stencils of order 4 and 8; both shots are one
batch on two torch threads; ``model_gradient_sampling_interval`` is its ``save_every``. What differs: it also checks
that its output is finite, and it returns the final wavefields.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.wave_job import WaveJob
from benchmarks.contenders.worker import Round, serve, timed


def setup(settings: dict[str, Any]) -> tuple[dict[str, Any], Round]:
    import deepwave
    import torch

    job = WaveJob(**settings)
    torch.set_num_threads(job.threads)
    shots = len(job.source_cells)
    # deepwave solves ∇²u − u_tt/c² = s, with s the value at the source's cell instead of the density of a point.
    signal = torch.from_numpy(-job.wavelet / job.spacing**2).expand(shots, 1, job.steps).contiguous()
    sources = torch.from_numpy(job.source_cells)[:, None, :]
    receivers = torch.from_numpy(job.receiver_cells).expand(shots, -1, -1).contiguous()

    def simulate(model: torch.Tensor) -> torch.Tensor:
        return deepwave.scalar(
            model,
            job.spacing,
            job.time_step,
            source_amplitudes=signal,
            source_locations=sources,
            receiver_locations=receivers,
            accuracy=job.order,
            pml_width=job.layer,
            pml_freq=job.frequency,
            model_gradient_sampling_interval=job.save_every,
        )[-1]

    with torch.no_grad():
        observed = simulate(torch.from_numpy(job.truth))

    def gradient() -> torch.Tensor:
        vp = torch.from_numpy(job.start).requires_grad_()
        loss = 0.5 * (simulate(vp) - observed).square().sum()
        loss.backward()
        assert vp.grad is not None
        return vp.grad

    result = gradient()
    with torch.no_grad():
        traces = simulate(torch.from_numpy(job.start))
    facts = job.leave("deepwave", traces.permute(0, 2, 1), result) | {"version": deepwave.__version__}
    return facts, lambda: {"samples": timed(gradient, at_least=job.at_least)}


if __name__ == "__main__":
    serve("deepwave", setup)
