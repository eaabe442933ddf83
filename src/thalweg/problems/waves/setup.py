"""What a wave study describes: grid, array, models, wavelets, simulators; and what is refused before any computing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import PositionError, ShapeError, SimulationError, StudyError
from thalweg.graph import Variable, wait
from thalweg.problems.waves import records, stability
from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.files import array_digest, read_array
from thalweg.problems.waves.geometry import line_array, ring_array
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.observed import check_low_pass, finer_grid, interpolate, low_pass
from thalweg.problems.waves.phantom import head, inclusion
from thalweg.problems.waves.propagator import Propagator
from thalweg.problems.waves.time_dispersion import AddTimeDispersion, RemoveTimeDispersion
from thalweg.problems.waves.wavelets import dominant_frequency, ricker, ricker_end, tone_burst, tone_burst_end
from thalweg.runs.objecting import behind

OBSERVED_ORDER = 8  # of the simulations that make observed data

END_KEYS = ("blocks.{block}.frequency", "problem.wavelet", "problem.time_step", "problem.steps")
"""What decides whether the wavelet of a block ends before the records do."""

HEARING_KEYS = (
    *(*END_KEYS, "blocks.{block}.low_pass"),
    *(f"problem.{key}" for key in ("shape", "spacing", "sources", "receivers", "min_offset", "start")),
)
"""What decides whether it is heard in them."""


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
            self.speeds = self._check_all()
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

    def _check_all(self) -> tuple[float, float]:
        """Refuse what would fail or be wrong later, before any computing."""
        s = self.settings
        if isinstance(s.wavelet, spec.FromFile) and isinstance(s.observed, spec.Simulated):
            raise StudyError("problem.observed: simulated data needs an analytic wavelet (ricker or tone_burst).")
        low, high = stability.check_speeds(self.start, "start")
        if s.speeds is not None:
            self.start_fault = _fault_of(stability.check_range, low, high, s.speeds, self.dtype)
        if self.truth is not None:
            true_low, true_high = stability.check_speeds(self.truth, "truth")
            low, high = min(low, true_low), max(high, true_high)
        if s.speeds is not None:
            low, high = min(low, s.speeds[0]), max(high, s.speeds[1])
        stability.check_time_step(s.time_step, high, s.spacing, s.order)
        cut_offs: list[StudyError | None] = []
        for block in range(len(self.blocks)):
            self.frequency(block)  # where there is none, or no wavelet, that is said
            cut_offs.append(self._object(block, self._check_end, END_KEYS))
            with _explained(cut_offs[block]):
                self._check_dispersion(block, low, self.propagator(block), self.driven(block))
        for shot in range(len(self.sources)):
            if not len(self.receivers_of(shot)):
                raise StudyError(f"problem.min_offset: {s.min_offset:g} m leaves shot {shot} without any receiver.")
        for block in range(len(self.blocks)):
            self._object(block, self._check_hearing, HEARING_KEYS)
        if isinstance(s.observed, spec.FromFile):
            self.measured(s.observed)
        else:
            assert self.truth is not None
            for block in range(len(self.blocks)):
                fine, driven = self.finer(s.observed, block)
                stability.check_time_step(fine.time_step, high, fine.grid.spacing, fine.order)
                with _explained(cut_offs[block]):
                    self._check_dispersion(block, low, fine, driven)
        return low, high

    def _simulations(self, block: int) -> list[tuple[Propagator, NDArray[Any]]]:
        """Return the simulators that a block needs, and what drives each: its own first."""
        own = [(self.propagator(block), self.driven(block))]
        observed = self.settings.observed
        return [*own, self.finer(observed, block)] if isinstance(observed, spec.Simulated) else own

    def _check_dispersion(self, block: int, low: float, simulator: Propagator, driven: NDArray[Any]) -> None:
        """Refuse a wavelet that a grid is too coarse for; the advice is one with which the whole study passes."""
        step, grid, order = simulator.time_step, simulator.grid, simulator.order
        least = simulator.min_points_per_wavelength

        def advice() -> str:
            points = stability.resolution(driven, step, low, grid.spacing)[1]
            spacing = stability.round_down(self.settings.spacing * points / least)
            finer = f"refine the grid (a spacing of at most {spacing:g} m, and more cells)."
            key, frequency = self._fitting(block, low, points / least)
            if frequency is None:
                return f"No lower {key} helps: {finer[0].upper()}{finer[1:]}"
            return f"Set {key} to at most {frequency:g} Hz, or {finer}"

        name = f"the wavelet of blocks.{block}"
        stability.check_dispersion(driven, step, low, grid.spacing, order, least, name=name, advice=advice)

    def _fitting(self, block: int, low: float, ratio: float) -> tuple[str, float | None]:
        """Return the key that decides how far up a block's wavelet reaches, and the highest value, Hz, that passes."""
        own, wavelet = self.blocks[block], self.settings.wavelet
        name = "low_pass" if isinstance(wavelet, spec.FromFile) else "frequency"
        present = own.low_pass if name == "low_pass" else self.frequency(block)
        if present is None:  # above this a low-pass leaves the wavelet as it is
            present = stability.resolution(self.driven(block), self.settings.time_step, low, self.grid.spacing)[0]
        inherited = name == "frequency" and own.frequency is None
        key = "problem.wavelet.frequency" if inherited else f"blocks.{block}.{name}"

        def fits(value: float) -> bool:
            other = copy(self)
            other.blocks = [*self.blocks]
            other.blocks[block] = own.model_copy(update={name: value})
            try:
                other._check_end(block)
                simulations = other._simulations(block)
            except (SimulationError, StudyError):
                return False  # so low, or so long, that something else would be refused
            return all(
                stability.resolution(driven, simulator.time_step, low, simulator.grid.spacing)[1]
                >= simulator.min_points_per_wavelength
                for simulator, driven in simulations
            )

        return key, stability.highest_that_fits(fits, above=present, near=0.95 * ratio * present)

    def _object(self, block: int, check: Callable[[int], None], keys: tuple[str, ...]) -> StudyError | None:
        """Keep what is wrong with a block, with the keys of the study that it follows from, and return it."""
        fault = _fault_of(check, block)
        if fault is not None:
            self.objections.append((fault, tuple(key.format(block=block) for key in keys)))
        return fault

    def _check_end(self, block: int) -> None:
        """Refuse a wavelet that would be cut off by the end of the records."""
        s, frequency, name = self.settings, self.frequency(block), f"blocks.{block}"
        if isinstance(s.wavelet, spec.FromFile):
            records.check_tail(self.wavelet(block), frequency, s.time_step, name)
            return
        burst = s.wavelet if isinstance(s.wavelet, spec.ToneBurst) else None
        end = ricker_end(frequency) if burst is None else tone_burst_end(frequency, burst.cycles)
        records.check_end(end, frequency, s.time_step, s.steps, name)

    def _check_hearing(self, block: int) -> None:
        """Refuse records in which nothing arrives: no update would change anything."""
        s, fastest = self.settings, float(self.start.max())
        nearest = float(min(self.offsets(shot)[self.receivers_of(shot)].min() for shot in range(len(self.sources))))
        records.check_hearing(
            self.pulse(block)[0] + nearest / fastest,
            partial(self.arrivals, block),
            speed=fastest,
            time_step=s.time_step,
            steps=s.steps,
            name=f"blocks.{block}",
        )

    def arrivals(self, block: int) -> NDArray[np.float64]:
        """Return the first arrivals of a block's wavelet, s, straight through the start: one a source and receiver."""
        shots = ((source, self.receivers[self.receivers_of(shot)]) for shot, source in enumerate(self.sources))
        ways = [records.straight_times(self.grid, self.start, source, used) for source, used in shots]
        return self.pulse(block)[1] + np.concatenate(ways)

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


def _fault_of(check: Callable[..., None], *args: Any) -> StudyError | None:
    try:
        check(*args)
    except StudyError as error:
        return error
    return None


@contextmanager
def _explained(cut_off: StudyError | None) -> Iterator[None]:
    """Where a wavelet is cut off its spectrum has no end: what is said of that alone would be misleading."""
    try:
        yield
    except (SimulationError, StudyError) as error:
        if cut_off is None:
            raise
        raise behind(cut_off, error) from error.__cause__
