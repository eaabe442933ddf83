"""What a worker does for one shot, and what it needs for all shots of a band."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from thalweg.graph import Variable, wait
from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.misfit import L2Misfit
from thalweg.problems.waves.setup import WaveSetup
from thalweg.runtime import Shared


class Band:
    """One frequency band: simulator, wavelet, observed data. Made once in each process, and only read there.

    Args:
        setup: the study.
        block: number of the block.
        observed: the data of all shots, (shots, steps, receivers); None if they are the traces of the study's file,
            which is read here.

    Raises:
        StudyError: the file holds other traces here than where the run was started.
    """

    def __init__(self, setup: WaveSetup, block: int, observed: NDArray[Any] | None) -> None:
        self.setup = setup
        self.propagator = setup.propagator(block)
        self.driving = setup.driven(block)
        self.misfit = L2Misfit(name="misfit")
        self.observed = read_observed(setup, block) if observed is None else observed


class ShotFeedback:
    """The misfit of a shot and its gradient with respect to the model: a task for a runtime.

    Args:
        model: sound speed, m/s.
        band: the present one.
    """

    def __init__(self, model: NDArray[Any], band: Shared[Band]) -> None:
        self._model = model
        self._band = band

    def __call__(self, shot: int) -> dict[str, Any]:
        """Return ``loss`` and ``vp``, the gradient."""
        return wait(self._feedback(self._band.value, shot))

    async def _feedback(self, band: Band, shot: int) -> dict[str, Any]:
        setup = band.setup
        vp = Variable(self._model, name="vp", needs_grad=True)
        used = setup.receivers_of(shot)
        geometry = band.propagator.shot(setup.sources[shot : shot + 1], setup.receivers[used])
        traces = await band.propagator(vp, Variable(band.driving, name="wavelet"), geometry)
        if setup.correction is not None:
            traces = await setup.correction(traces)
        loss = await band.misfit(traces, band.observed[shot][:, used])
        await loss.adjoint()
        return {"loss": float(loss.data), "vp": vp.grad}


def read_observed(setup: WaveSetup, block: int) -> NDArray[Any]:
    """Return the traces of the study's file in the band of a block, (shots, steps, receivers).

    Raises:
        StudyError: they are not those that the run began with.
    """
    table = setup.settings.observed
    assert isinstance(table, spec.FromFile)
    data = setup.measured(table)
    _, band = setup.banded(block)
    for shot in range(len(data)):
        data[shot] = band(data[shot])
    return data
