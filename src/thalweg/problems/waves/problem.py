"""Full-waveform inversion as a problem for runs: shots are items, frequency bands are blocks.

The loss of a batch of shots is ½ Σ (d − d_obs)², summed over shots, times and receivers; its gradient comes from one
adjoint run a shot, and the shots' gradients are added in the runtime's fixed tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import ThalwegError
from thalweg.graph import Variable, wait
from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.memory import memory_needed
from thalweg.problems.waves.observed import ObservedShot, add_noise
from thalweg.problems.waves.propagator import Propagator
from thalweg.problems.waves.setup import OBSERVED_ORDER, WaveSetup
from thalweg.problems.waves.shots import Band, ShotFeedback
from thalweg.problems.waves.time_dispersion import RemoveTimeDispersion
from thalweg.runs.problem import Check, Feedback, Problem, Progress
from thalweg.runs.telling import some
from thalweg.runtime import Pieces, Shared

if TYPE_CHECKING:
    from thalweg.runs.history import History
    from thalweg.runtime import Runtime


class WaveProblem(Problem):
    """Sound speed from traces, on a regular 2-D grid.

    Made from a study (`Problem.build`); `thalweg.problems.waves.settings` lists what the study may say.
    """

    kind: ClassVar[str] = "waves"
    Settings = spec.WaveSettings
    BlockSettings = spec.WaveBlock
    item_name = "shot"
    summary_captions: ClassVar[Mapping[str, str]] = {
        "gpts_per_second": "billion grid points a second, forward and adjoint together",
        "model_error_start": "model error at the start",
        "model_error_constant": "model error of the best constant, which has to be beaten",
        "model_error_end": "model error at the end: ‖model − truth‖ ÷ ‖start − truth‖ inside the mask",
    }
    initial_keys = ("start",)

    def __init__(self, settings: spec.WaveSettings, blocks: list[spec.WaveBlock], *, seed: int, folder: Path) -> None:
        self.setup = WaveSetup(settings, blocks, folder=folder)
        self.seed = seed
        self.items = len(self.setup.sources)
        self._vp = Variable(self.setup.start.copy(), name="vp", needs_grad=True)
        self.variables = (self._vp,)
        self._observed: dict[int, NDArray[Any]] = {}  # by block; empty if they are in a file
        self._band: Shared[Band] | None = None
        self._points = 0.0
        self._seconds = 0.0

    @classmethod
    def build(cls, settings: Any, blocks: list[Any], *, seed: int, folder: Path) -> WaveProblem:
        """Make the problem of a study; see `Problem.build`."""
        return cls(settings, blocks, seed=seed, folder=folder)

    def check_start(self) -> None:
        """Refuse a start outside of ``speeds``; see `Problem.check_start`."""
        if self.setup.start_fault is not None:
            raise self.setup.start_fault

    def objections(self) -> list[tuple[ThalwegError, tuple[str, ...]]]:
        """Return what is wrong with records that are too short; see `Problem.objections`."""
        return [*self.setup.objections]

    def inputs(self) -> dict[str, str]:
        """Return digests of what came from files; see `Problem.inputs`."""
        return dict(self.setup.inputs)

    def plan(self, runtime: Runtime, iterations: int) -> list[tuple[str, str]]:
        """Return what the run will need; see `Problem.plan`."""
        grid, s = self.setup.grid, self.setup.settings
        rows, columns = grid.padded_shape
        cells = f"{grid.shape[0]} × {grid.shape[1]} cells of {grid.spacing:g} m"
        late = self.setup.late()
        return [
            ("grid", f"{cells}, {rows} × {columns} with the absorbing ones"),
            ("time", f"{s.steps} steps of {s.time_step:g} s" + (f"; {late}" if late else "")),
            ("array", f"{some(self.items, 'shot')}, {some(len(self.setup.receivers), 'receiver')}"),
            ("memory", memory_needed(self.setup, runtime)),
        ]

    async def prepare(self, runtime: Runtime, progress: Progress) -> None:
        """Read or simulate the observed data of all blocks, and compile; see `Problem.prepare`."""
        progress(0, 1, "compiling")
        await runtime.run(self._compile)
        table = self.setup.settings.observed
        if isinstance(table, spec.FromFile):
            return  # who needs them reads them: here, or on the workers
        for block in range(len(self.setup.blocks)):
            self._observed[block] = await self._simulate(table, block, runtime, progress)

    def _compile(self) -> None:
        """Have the kernels compiled (or read from numba's cache) before anything is timed."""
        s = self.setup.settings
        tiny = Grid((8, 8), s.spacing, absorbing=2, free_surface=s.free_surface)
        for order in {s.order, OBSERVED_ORDER}:
            propagator = Propagator(
                tiny, time_step=s.time_step, steps=2, speed=self.setup.speeds[0], frequency=1.0, order=order
            )
            vp = Variable(np.full(tiny.shape, self.setup.speeds[0], self.setup.dtype), name="vp", needs_grad=True)
            wavelet = Variable(np.zeros(2, self.setup.dtype), name="wavelet")
            shot = propagator.shot([(s.spacing, 0.0)], [(s.spacing, 0.0)])
            traces = wait(propagator(vp, wavelet, shot))
            if s.time_correction:
                traces = wait(RemoveTimeDispersion(2)(traces))
            wait(traces.adjoint(np.zeros_like(traces.data)))

    async def _simulate(self, table: spec.Simulated, block: int, runtime: Runtime, progress: Progress) -> NDArray[Any]:
        s = self.setup.settings
        propagator, driven = await runtime.run(self.setup.finer, table, block)
        model, _ = await runtime.run(self.setup.true_model, propagator.grid)
        task = ObservedShot(
            propagator,
            model,
            driven,
            self.setup.sources,
            self.setup.receivers,
            resample=table.finer_time,
            steps=s.steps,
            correction=RemoveTimeDispersion(propagator.steps) if s.time_correction else None,
        )
        text = f"observed data, band {block + 1} of {len(self.setup.blocks)}"
        offset, total = block * self.items, len(self.setup.blocks) * self.items
        pieces = await runtime.map_reduce(
            task, range(self.items), progress=lambda done, _: progress(offset + done, total, text)
        )
        return await runtime.run(self._noisy, table, block, pieces)

    def _noisy(self, table: spec.Simulated, block: int, pieces: Pieces) -> NDArray[Any]:
        data = np.empty((self.items, self.setup.settings.steps, len(self.setup.receivers)), self.setup.dtype)
        for shot in range(self.items):
            data[shot] = pieces.pop(shot)  # so that no shot is held twice
        add_noise(data, table.noise, np.random.default_rng([self.seed, block]))
        _, band = self.setup.banded(block)
        for shot in range(self.items):
            data[shot] = band(data[shot])
        return data

    async def begin_block(self, index: int) -> None:
        """Choose the frequency band."""
        self._band = Shared(Band, self.setup, index, self._observed.get(index))

    async def feedback(self, batch: NDArray[np.int64], runtime: Runtime) -> Feedback:
        """Return the misfit of a batch of shots and its gradient; see `Problem.feedback`."""
        assert self._band is not None, "begin_block comes before feedback"
        task = ShotFeedback(self._vp.data, self._band)
        began = time.perf_counter()
        total = await runtime.map_reduce(task, [int(shot) for shot in batch])
        self._seconds += time.perf_counter() - began
        rows, columns = self.setup.grid.padded_shape
        self._points += 2.0 * rows * columns * self.setup.settings.steps * len(batch)
        return Feedback(loss=float(total["loss"]), gradients={"vp": total["vp"]})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return ``region``, where the model may change: 1 inside, 0 outside."""
        return {"region": self.setup.region}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return ``speeds``, m/s, which the simulations were checked for; see `Problem.ranges`."""
        return {} if self.setup.settings.speeds is None else {"vp": self.setup.settings.speeds}

    def model_error(self, model: NDArray[Any]) -> float:
        """Return ‖model − truth‖ / ‖start − truth‖ inside the mask."""
        assert self.setup.truth is not None
        truth = self.setup.truth.astype(np.float64)[self.setup.inside]
        start = np.linalg.norm(self.setup.start[self.setup.inside] - truth)
        return float(np.linalg.norm(model[self.setup.inside] - truth) / start) if start > 0.0 else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the model's error, where the truth is known."""
        return {} if self.setup.truth is None else {"model_error": self.model_error(self._vp.data)}

    def summary(self) -> dict[str, Any]:
        """Return the model errors and the speed of the computation; see `Problem.summary`."""
        out: dict[str, Any] = {
            "shots": self.items,
            "frequencies_hz": [self.setup.frequency(block) for block in range(len(self.setup.blocks))],
            "gpts_per_second": self._points / self._seconds / 1e9 if self._seconds else None,
        }
        if self.setup.truth is not None:
            constant = np.full(self.setup.grid.shape, self.setup.truth[self.setup.inside].mean(dtype=np.float64))
            out |= {
                "model_error_start": self.model_error(self.setup.start),
                "model_error_constant": self.model_error(constant),
                "model_error_end": self.model_error(self._vp.data),
            }
        return out

    def results(self) -> dict[str, NDArray[Any]]:
        """Return the model, where it started, its spacing, and the truth and mask where they are known."""
        out: dict[str, NDArray[Any]] = {
            "vp": self._vp.data,
            "start": self.setup.start,
            "spacing": np.array(self.setup.grid.spacing),
            "sources": self.setup.sources,
            "receivers": self.setup.receivers,
        }
        if self.setup.truth is not None:
            out |= {"truth": self.setup.truth, "mask": self.setup.inside}
        return out

    def figures(self, history: History) -> dict[str, Callable[[Path], None]]:
        """Return the picture of the models and the misfit."""
        from thalweg.problems.waves.figures import draw_models

        return {"result": lambda path: draw_models(self, history, path)}

    def checks(self) -> Iterator[Check]:
        """Return the stability, accuracy and adjoint tests of ``thalweg check``."""
        from thalweg.problems.waves.checks import wave_checks

        return wave_checks(self)
