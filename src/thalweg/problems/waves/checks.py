"""What ``thalweg check`` measures on a wave study before hours are spent on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.graph import Variable, check_adjoint, check_gradient, wait
from thalweg.problems.waves import stability
from thalweg.problems.waves.misfit import L2Misfit
from thalweg.problems.waves.settings import FromFile
from thalweg.runs.problem import Check

if TYPE_CHECKING:
    from thalweg.problems.waves.problem import WaveProblem

ADJOINT_LIMIT = {"float32": 1e-5, "float64": 1e-12}
STORAGE_LIMIT = 0.01
_NAMED = 8  # silent shots


def wave_checks(problem: WaveProblem) -> Iterator[Check]:
    """Yield the checks, the cheap ones first."""
    s = problem.setup.settings
    low, high = problem.setup.speeds
    largest = stability.largest_stable_step(high, s.spacing, s.order)
    yield Check(
        "time step",
        f"{s.time_step:.4g} s",
        f"≤ {largest:.4g} s",
        s.time_step <= largest,
        f"stable up to {high:.6g} m/s, the fastest of start, truth and speeds",
    )
    blocks = len(problem.setup.blocks)
    for block in range(blocks):
        yield _resolution(problem, block, low)
    yield _arrivals(problem)
    if isinstance(s.observed, FromFile):
        yield _silence(problem, s.observed)
    shot = _OneShot(problem, blocks - 1)
    yield shot.timing()
    yield shot.adjoint()
    yield shot.gradient()
    if s.save_every > 1:
        yield shot.storage()


def _resolution(problem: WaveProblem, block: int, low: float) -> Check:
    s = problem.setup.settings
    least = problem.setup.propagator(block).min_points_per_wavelength
    driven = problem.setup.driven(block)
    frequency, points = stability.check_dispersion(driven, s.time_step, low, s.spacing, s.order, least)
    # With the time step's error taken out, that of the stencil remains.
    step = 1e-3 * s.time_step if s.time_correction else s.time_step
    error = stability.phase_velocity_error(frequency, low, s.spacing, step, s.order) if frequency else 0.0
    return Check(
        f"points a wavelength, band {block + 1}",
        f"{points:.2f} at {frequency:.4g} Hz",
        f"≥ {least:g}",
        points >= least,
        "phase velocity " + ("undefined" if isnan(error) else f"off by at most {error:.2%}") + " there",
    )


def _arrivals(problem: WaveProblem) -> Check:
    """Whether all first arrivals are in the records, along straight lines through the start."""
    late = problem.setup.late()
    return Check(
        "latest first arrival",
        f"{problem.setup.latest_arrivals().max():.4g} s",
        f"≤ {problem.setup.end:.4g} s",
        not late,
        late or "peak of the wavelet, straight through the start; then the records end",
    )


def _silence(problem: WaveProblem, table: FromFile) -> Check:
    """Whether the records of all shots hold something: a shot that failed is often a record of zeros."""
    heard = problem.setup.heard(table)
    silent = np.flatnonzero(~heard).tolist()
    named = ", ".join(map(str, silent[:_NAMED])) + (", ..." if len(silent) > _NAMED else "")
    return Check(
        "silent shots",
        f"{len(silent)} of {len(heard)}",
        "0",
        not silent,
        f"all traces of shot {named} that are used are zero, and the model would be fitted to silence: leave them out "
        "of sources and records"
        if silent
        else "every observed record holds something",
    )


class _OneShot:
    """The tests of one shot of the highest band; the model is the start, a little perturbed."""

    def __init__(self, problem: WaveProblem, block: int) -> None:
        self._problem = problem
        self._block = block
        self._rng = np.random.default_rng(problem.seed)
        self._wavelet = problem.setup.driven(block)
        self._propagator = problem.setup.propagator(block)
        shape = problem.setup.grid.shape
        bumps = self._rng.standard_normal(shape)
        self._model = (problem.setup.start * (1.0 + 0.002 * bumps)).clip(*problem.setup.speeds)
        self._shot = self._propagator.shot(problem.setup.sources[:1], problem.setup.receivers)

    def timing(self) -> Check:
        """Time one shot's gradient once everything is compiled."""
        self._gradient_of_energy(self._problem.setup.settings.save_every)
        began = time.perf_counter()
        self._gradient_of_energy(self._problem.setup.settings.save_every)
        seconds = time.perf_counter() - began
        return Check("one shot's gradient", f"{seconds:.2f} s", "", True, "on one thread", seconds=seconds)

    def adjoint(self) -> Check:
        """Dot-product test of the Jacobian with respect to sound speed and wavelet."""
        s = self._problem.setup.settings
        propagator = self._problem.setup.propagator(self._block, save_every=1)
        vp = Variable(self._model.astype(s.dtype), name="vp", needs_grad=True)
        wavelet = Variable(self._wavelet, name="wavelet", needs_grad=True)
        error = check_adjoint(propagator, vp, wavelet, self._shot).error
        limit = ADJOINT_LIMIT[s.dtype]
        return Check(
            "adjoint test",
            f"{error:.1e}",
            f"≤ {limit:g}",
            error <= limit,
            f"|⟨Jx, y⟩ − ⟨x, Jᵀy⟩| ÷ ‖Jx‖‖y‖ in {s.dtype}",
        )

    def gradient(self) -> Check:
        """Taylor test of the misfit in double precision."""
        propagator = self._problem.setup.propagator(self._block, save_every=1)
        misfit = L2Misfit()
        wavelet = Variable(self._wavelet.astype(np.float64), name="wavelet")
        start = Variable(self._problem.setup.start.astype(np.float64), name="start")
        observed = wait(propagator(start, wavelet, self._shot)).data

        async def loss(vp: Variable) -> Variable:
            loss: Variable = await misfit(await propagator(vp, wavelet, self._shot), observed)
            return loss

        vp = Variable(self._model.astype(np.float64), name="vp", needs_grad=True)
        # In m/s; the Taylor test's own default would leave the range in which the time step is stable.
        direction = 20.0 * self._rng.standard_normal(vp.data.shape)
        result = check_gradient(loss, vp, direction=direction)
        first, second = result.slopes
        return Check(
            "gradient test",
            f"slopes {first:.3f}, {second:.3f}",
            "1 and 2 ± 0.1",
            result.ok,
            "Taylor test in float64",
        )

    def storage(self) -> Check:
        """The error that save_every makes in a shot's gradient."""
        every = self._problem.setup.settings.save_every
        exact, kept = self._gradient_of_energy(1), self._gradient_of_energy(every)
        region = self._problem.setup.region
        error = float(np.linalg.norm(region * (kept - exact)) / np.linalg.norm(region * exact))
        return Check(
            f"error of save_every = {every}",
            f"{error:.2%}",
            f"≤ {STORAGE_LIMIT:.0%}",
            error <= STORAGE_LIMIT,
            "of the gradient where the model may change; save_every = 1 is exact",
        )

    def _gradient_of_energy(self, save_every: int) -> NDArray[Any]:
        """Gradient of the misfit between the perturbed model's traces and the start's."""
        s = self._problem.setup.settings
        propagator = self._problem.setup.propagator(self._block, save_every=save_every)
        misfit = L2Misfit()

        async def run() -> NDArray[Any]:
            wavelet = Variable(self._wavelet, name="wavelet")
            start = await propagator(Variable(self._problem.setup.start, name="start"), wavelet, self._shot)
            vp = Variable(self._model.astype(s.dtype), name="vp", needs_grad=True)
            loss = await misfit(await propagator(vp, wavelet, self._shot), start.data)
            await loss.adjoint()
            assert vp.grad is not None
            return np.asarray(vp.grad, np.float64)

        return wait(run())
