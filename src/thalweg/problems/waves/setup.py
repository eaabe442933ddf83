"""What a wave study describes: grid, array, models, wavelets, simulators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import PositionError, ShapeError, SimulationError, StudyError
from thalweg.graph import Variable, wait
from thalweg.problems.waves import records, refusing
from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.files import array_digest, read_array
from thalweg.problems.waves.geometry import line_array, ring_array
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.observed import check_low_pass, finer_grid, interpolate, low_pass
from thalweg.problems.waves.phantom import head, inclusion
from thalweg.problems.waves.propagator import Propagator
from thalweg.problems.waves.time_dispersion import AddTimeDispersion, RemoveTimeDispersion
from thalweg.problems.waves.wavelets import dominant_frequency, ricker, tone_burst
from thalweg.runs.objecting import behind

OBSERVED_ORDER = 8  # of the simulations that make observed data


class WaveSetup:
    """A wave study, read and checked.

    Args:
        settings: the ``[problem]`` table.
        blocks: the ``[[blocks]]``.
        folder: where relative paths start.

    Raises:
        SimulationError: the simulation would be wrong.
        StudyError: the settings contradict each other, or a file does not fit.

    Attributes:
        grid: the inversion's grid.
        sources: (shots, 2), m.
        receivers: (receivers, 2), m.
        start: starting model, m/s, of the study's dtype.
        truth: the true model, m/s, or None where it is not known.
        inside: where errors are measured, Boolean.
        region: weight of the gradient, 1 where the model may change and 0 where not.
        correction: what takes the error of the time step out of simulated traces, or None.
        speeds: lowest and highest sound speed that the simulations must bear, m/s.
        start_fault: what a run that begins is refused for, or None: a start outside of ``speeds``.
        objections: records that are too short, each with the keys that make them so; see `Problem.objections`.
        inputs: digests of the arrays that came from files, by the key of the study that names the file.
    """

    def __init__(self, settings: spec.WaveSettings, blocks: list[spec.WaveBlock], *, folder: Path) -> None:
        self.settings = s = settings
        self.blocks = blocks
        self.grid = Grid(s.shape, s.spacing, s.absorbing, s.free_surface)
        self.dtype = np.dtype(s.dtype)
        self._folder = folder.absolute()  # workers have other present folders
        self.inputs: dict[str, str] = {}
        self.sources = self._transducers(s.sources, "sources")
        self.receivers = self.sources if s.receivers is None else self._transducers(s.receivers, "receivers")
        self.start = self._starting_model()
        self.truth: NDArray[Any] | None = None
        self.inside: NDArray[np.bool_] = np.ones(s.shape, dtype=bool)
        if s.truth is not None:
            self.truth, self.inside = self.true_model(self.grid)
            if not (self.truth != self.start)[self.inside].any():
                raise StudyError(
                    "problem.truth: there is nothing to find. Where errors are measured (the object, or the mask) is "
                    "empty, outside the grid, or the truth equals the start there."
                )
        self.region = self._region()
        if not ((self.region >= 0.0) & (self.region <= 1.0)).all() or not self.region.any():
            raise StudyError(
                f"problem.region: weights must lie between 0 and 1, and not all be 0; they go from "
                f"{self.region.min():g} to {self.region.max():g}."
            )
        self.correction = RemoveTimeDispersion(s.steps, name="time correction") if s.time_correction else None
        self._latest: Propagator | None = None
        self.start_fault: StudyError | None = None
        self.objections: list[tuple[StudyError, tuple[str, ...]]] = []
        try:
            self.speeds = refusing.check_all(self)
        except (SimulationError, StudyError) as error:
            if self.start_fault is None:
                raise
            raise behind(self.start_fault, error) from error.__cause__

    def __getstate__(self) -> dict[str, Any]:
        """Leave the latest simulator behind: another process makes its own."""
        return {**self.__dict__, "_latest": None}

    def frequency(self, block: int) -> float:
        """Return the frequency, Hz, that the wavelet of a block is made for."""
        wavelet = self.settings.wavelet
        own = self.blocks[block].frequency
        if isinstance(wavelet, spec.FromFile):
            if own is not None:
                raise StudyError(
                    f"blocks.{block}.frequency: the wavelet comes from a file; choose the band with low_pass instead."
                )
            return dominant_frequency(self._file_wavelet(wavelet), self.settings.time_step)
        frequency = own if own is not None else wavelet.frequency
        if frequency is None:
            raise StudyError(f"blocks.{block}: no frequency here nor in [problem.wavelet]; give one in Hz.")
        return frequency

    def wavelet(self, block: int, *, time_step: float | None = None, steps: int | None = None) -> NDArray[Any]:
        """Return the wavelet of a block, (steps,), at the inversion's or another sampling, without its low-pass."""
        wavelet = self.settings.wavelet
        if isinstance(wavelet, spec.FromFile):
            return self._file_wavelet(wavelet).astype(self.dtype)
        step, count = time_step or self.settings.time_step, steps or self.settings.steps
        if isinstance(wavelet, spec.ToneBurst):
            made = tone_burst(self.frequency(block), step, count, cycles=wavelet.cycles)
        else:
            made = ricker(self.frequency(block), step, count)
        return made.astype(self.dtype)

    def propagator(self, block: int, *, save_every: int | None = None) -> Propagator:
        """Return the simulator of a block; the latest is kept, with its buffers, until another band needs one."""
        frequency = self.frequency(block)
        if save_every is None and self._latest is not None and self._latest.frequency == frequency:
            return self._latest
        s = self.settings
        made = Propagator(
            self.grid,
            time_step=s.time_step,
            steps=s.steps,
            speed=float(self.start.mean()),
            frequency=frequency,
            order=s.order,
            save_every=save_every or s.save_every,
            name=f"propagator at {frequency:g} Hz",
        )
        if save_every is None:
            self._latest = made
        return made

    def _transducers(self, table: spec.Ring | spec.Line | spec.FromFile, name: str) -> NDArray[np.float64]:
        middle = (0.5 * self.grid.extent[0], 0.5 * self.grid.extent[1])
        if isinstance(table, spec.Ring):
            positions = ring_array(table.count, table.radius, table.center or middle)
        elif isinstance(table, spec.Line):
            positions = line_array(table.count, table.start, table.stop)
        else:
            positions = self._file(table, table.key or name, f"{name}.path")
        found = self.grid.check_positions(positions, name, inside_model=True)
        if self.grid.free_surface and (found[:, 0] == 0.0).any():
            first = int(np.flatnonzero(found[:, 0] == 0.0)[0])
            raise PositionError(
                f"{name}: number {first} lies on the free surface, where the pressure is zero and nothing is sent or "
                "heard; put it below.",
                name=name,
                first=first,
            )
        return found

    def _starting_model(self) -> NDArray[Any]:
        table = self.settings.start
        if isinstance(table, spec.Constant):
            return np.full(self.grid.shape, table.speed, self.dtype)
        return self._model(table, "start")

    def _file(self, table: spec.FromFile, array: str, key: str, kind: Any = np.float64) -> NDArray[Any]:
        """Read an array of a file that the study names at ``problem.<key>``: the same at every reading, anywhere."""
        read = read_array(self._folder, table.path, array)
        key, digest = f"problem.{key}", array_digest(read)
        if self.inputs.setdefault(key, digest) != digest:
            raise StudyError(
                f"{array} in {table.path} ({key}) is not what the run began with: the file was changed, or a worker "
                "has another one under the same path. Give all machines the same file."
            )
        return read.astype(kind)

    def _model(self, table: spec.FromFile, key: str) -> NDArray[Any]:
        model = self._file(table, table.key or "vp", f"{key}.path", self.dtype)
        self.grid.check_model(model, f"{table.key or 'vp'} in {table.path}")
        return model

    def true_model(self, grid: Grid) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the true model, m/s, on a grid with the same first cell, and where errors are measured."""
        table = self.settings.truth
        if isinstance(table, spec.Head):
            speed, inside = head(grid)
            return speed.astype(self.dtype), inside
        if isinstance(table, spec.Inclusion):
            speed, inside = inclusion(grid, **table.model_dump(exclude={"kind"}))
            return speed.astype(self.dtype), inside
        assert table is not None
        model = self._model(table, "truth")
        inside = np.ones(self.grid.shape, dtype=bool)
        if table.mask is not None:
            mask = self._file(table, table.mask, "truth.mask")
            self.grid.check_model(mask, f"{table.mask} in {table.path}")
            if not np.isin(mask, (0, 1)).all():
                raise StudyError(f"{table.mask} in {table.path} must hold True and False (or 1 and 0) only.")
            inside = mask.astype(bool)
        if grid is not self.grid:
            model = interpolate(model, self.grid, grid).astype(self.dtype)
        return model, inside

    def _region(self) -> NDArray[Any]:
        table = self.settings.region
        if table is None:
            return np.ones(self.grid.shape, self.dtype)
        if isinstance(table, spec.FromFile):
            region = self._file(table, table.key or "region", "region.path", self.dtype)
            self.grid.check_model(region, f"{table.key or 'region'} in {table.path}")
            return region
        center = table.center or (0.5 * self.grid.extent[0], 0.5 * self.grid.extent[1])
        z, x = (np.arange(n) * self.grid.spacing for n in self.grid.shape)
        distance = np.hypot(z[:, None] - center[0], x[None, :] - center[1])
        ramp = np.clip((table.radius - distance) / table.taper, 0.0, 1.0)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * ramp), self.dtype)

    def _file_wavelet(self, table: spec.FromFile) -> NDArray[np.float64]:
        wavelet = self._file(table, table.key or "wavelet", "wavelet.path")
        if wavelet.shape != (self.settings.steps,):
            raise ShapeError(f"wavelet in {table.path} has shape {wavelet.shape}, steps is {self.settings.steps}.")
        return wavelet

    def arrivals(self, block: int) -> NDArray[np.float64]:
        """Return the first arrivals of a block's wavelet, s, straight through the start: one a source and receiver."""
        shots = ((source, self.receivers[self.receivers_of(shot)]) for shot, source in enumerate(self.sources))
        ways = [records.straight_times(self.grid, self.start, source, used) for source, used in shots]
        return self.pulse(block)[1] + np.concatenate(ways)

    def heard(self, table: spec.FromFile) -> NDArray[np.bool_]:
        """Return which shots of a file have a trace, of the receivers that they use, that is not zero."""
        return np.array([t[:, self.receivers_of(shot)].any() for shot, t in enumerate(self.measured(table))])

    def latest_arrivals(self) -> NDArray[np.float64]:
        """Return the first arrivals, s, of the block in which they are the latest, one a source and receiver."""
        return np.asarray(np.max([self.arrivals(block) for block in range(len(self.blocks))], axis=0))

    @property
    def end(self) -> float:
        """When the records end, s."""
        return (self.settings.steps - 1) * self.settings.time_step

    def late(self) -> str:
        """Return what to say of pairs of source and receiver that are reached after the records' end; empty if none."""
        arrivals = self.latest_arrivals()
        late = int((arrivals > self.end).sum())
        if not late:
            return ""
        enough = records.steps_to(float(arrivals.max()), self.settings.time_step)
        pairs = f"{late} of {len(arrivals)} pairs of source and receiver"
        return f"{pairs} miss the wavelet's peak: the records end; take steps = {enough}"

    def pulse(self, block: int) -> tuple[float, float]:
        """Return when the wavelet of a block begins and when it peaks, s."""
        return records.begin_and_peak(self.banded(block)[0], self.settings.time_step)

    def offsets(self, shot: int) -> NDArray[np.float64]:
        """Return the distances of all receivers from the source of a shot, m."""
        return np.asarray(np.hypot(*(self.receivers - self.sources[shot]).T))

    def receivers_of(self, shot: int) -> NDArray[np.intp]:
        """Return the indices of the receivers that a shot uses: those no nearer to its source than ``min_offset``."""
        return np.flatnonzero(self.offsets(shot) >= self.settings.min_offset)

    def driving(self, wavelet: NDArray[Any]) -> NDArray[Any]:
        """Return what to drive the simulation with, so that its corrected traces are those of ``wavelet``."""
        if not self.settings.time_correction:
            return wavelet
        return np.asarray(wait(AddTimeDispersion(len(wavelet))(Variable(wavelet, name="wavelet"))).data)

    def driven(self, block: int) -> NDArray[Any]:
        """Return what the simulations of a block are driven with: its wavelet, filtered and made ready."""
        return self.driving(self.banded(block)[0])

    def finer(self, table: spec.Simulated, block: int) -> tuple[Propagator, NDArray[Any]]:
        """Return the simulator that makes a block's observed data, and what drives it."""
        s = self.settings
        numerator, denominator = table.finer_time
        time_step = s.time_step * numerator / denominator
        steps = -(-s.steps * denominator // numerator) + 1
        propagator = Propagator(
            finer_grid(self.grid, table.finer_space),
            time_step=time_step,
            steps=steps,
            speed=float(self.start.mean()),
            frequency=self.frequency(block),
            order=OBSERVED_ORDER,
            name="observed data",
        )
        return propagator, self.driving(self.wavelet(block, time_step=time_step, steps=steps))

    def banded(self, block: int) -> tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]:
        """Return the wavelet of a block and the filter that its observed data gets too."""
        corner = self.blocks[block].low_pass
        if corner is None:
            return self.wavelet(block), lambda array: array
        wavelet, step = self.wavelet(block), self.settings.time_step
        check_low_pass(wavelet, corner, step, f"blocks.{block}.low_pass")
        band = low_pass(corner, step, len(wavelet))
        return band(wavelet), band

    def measured(self, table: spec.FromFile) -> NDArray[Any]:
        """Return the observed traces of a file, (shots, steps, receivers)."""
        traces = self._file(table, table.key or "traces", "observed.path", self.dtype)
        expected = (len(self.sources), self.settings.steps, len(self.receivers))
        if traces.shape != expected:
            raise ShapeError(
                f"{table.key or 'traces'} in {table.path} has shape {traces.shape}; sources, steps and receivers make "
                f"{expected}."
            )
        return traces
