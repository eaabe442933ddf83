"""What a wave study is refused for before any computing, and which keys of it decide that.

Records that are too short are kept as objections: a run that goes on is only told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from thalweg.errors import SimulationError, StudyError
from thalweg.problems.waves import records, stability
from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.propagator import Propagator
from thalweg.problems.waves.wavelets import ricker_end, tone_burst_end
from thalweg.runs.objecting import behind

if TYPE_CHECKING:
    from thalweg.problems.waves.setup import WaveSetup

END_KEYS = ("blocks.{block}.frequency", "problem.wavelet", "problem.time_step", "problem.steps")
"""What decides whether the wavelet of a block ends before the records do."""

HEARING_KEYS = (
    *(*END_KEYS, "blocks.{block}.low_pass"),
    *(f"problem.{key}" for key in ("shape", "spacing", "sources", "receivers", "min_offset", "start")),
)
"""What decides whether it is heard in them."""


def check_all(setup: WaveSetup) -> tuple[float, float]:
    """Refuse what would fail or be wrong later; keep the start's fault and the objections in the setup.

    Returns:
        Lowest and highest sound speed that the simulations must bear, m/s.

    Raises:
        SimulationError: the simulation would be wrong.
        StudyError: the settings contradict each other, or a file does not fit.
    """
    s = setup.settings
    if isinstance(s.wavelet, spec.FromFile) and isinstance(s.observed, spec.Simulated):
        raise StudyError("problem.observed: simulated data needs an analytic wavelet (ricker or tone_burst).")
    low, high = stability.check_speeds(setup.start, "start")
    if s.speeds is not None:
        setup.start_fault = _fault_of(stability.check_range, low, high, s.speeds, setup.dtype)
    if setup.truth is not None:
        true_low, true_high = stability.check_speeds(setup.truth, "truth")
        low, high = min(low, true_low), max(high, true_high)
    if s.speeds is not None:
        low, high = min(low, s.speeds[0]), max(high, s.speeds[1])
    stability.check_time_step(s.time_step, high, s.spacing, s.order)
    cut_offs: list[StudyError | None] = []
    for block in range(len(setup.blocks)):
        setup.frequency(block)  # where there is none, or no wavelet, that is said
        cut_offs.append(_object(setup, block, _check_end, END_KEYS))
        with _explained(cut_offs[block]):
            _check_dispersion(setup, block, low, setup.propagator(block), setup.driven(block))
    for shot in range(len(setup.sources)):
        if not len(setup.receivers_of(shot)):
            raise StudyError(f"problem.min_offset: {s.min_offset:g} m leaves shot {shot} without any receiver.")
    for block in range(len(setup.blocks)):
        _object(setup, block, _check_hearing, HEARING_KEYS)
    if isinstance(s.observed, spec.FromFile):
        if not setup.heard(s.observed).any():
            raise StudyError(
                f"problem.observed: all traces in {s.observed.path} that are used are zero, so there is nothing to "
                "fit; was the file written before the data?"
            )
    else:
        assert setup.truth is not None
        for block in range(len(setup.blocks)):
            fine, driven = setup.finer(s.observed, block)
            stability.check_time_step(fine.time_step, high, fine.grid.spacing, fine.order)
            with _explained(cut_offs[block]):
                _check_dispersion(setup, block, low, fine, driven)
    return low, high


def _simulations(setup: WaveSetup, block: int) -> list[tuple[Propagator, NDArray[Any]]]:
    """Return the simulators that a block needs, and what drives each: its own first."""
    own = [(setup.propagator(block), setup.driven(block))]
    observed = setup.settings.observed
    return [*own, setup.finer(observed, block)] if isinstance(observed, spec.Simulated) else own


def _check_dispersion(setup: WaveSetup, block: int, low: float, simulator: Propagator, driven: NDArray[Any]) -> None:
    """Refuse a wavelet that a grid is too coarse for; the advice is one with which the whole study passes."""
    step, grid, order = simulator.time_step, simulator.grid, simulator.order
    least = simulator.min_points_per_wavelength

    def advice() -> str:
        points = stability.resolution(driven, step, low, grid.spacing)[1]
        spacing = stability.round_down(setup.settings.spacing * points / least)
        finer = f"refine the grid (a spacing of at most {spacing:g} m, and more cells)."
        key, frequency = _fitting(setup, block, low, points / least)
        if frequency is None:
            return f"No lower {key} helps: {finer[0].upper()}{finer[1:]}"
        return f"Set {key} to at most {frequency:g} Hz, or {finer}"

    name = f"the wavelet of blocks.{block}"
    stability.check_dispersion(driven, step, low, grid.spacing, order, least, name=name, advice=advice)


def _fitting(setup: WaveSetup, block: int, low: float, ratio: float) -> tuple[str, float | None]:
    """Return the key that decides how far up a block's wavelet reaches, and the highest value, Hz, that passes."""
    own, wavelet = setup.blocks[block], setup.settings.wavelet
    name = "low_pass" if isinstance(wavelet, spec.FromFile) else "frequency"
    present = own.low_pass if name == "low_pass" else setup.frequency(block)
    if present is None:  # above this a low-pass leaves the wavelet as it is
        present = stability.resolution(setup.driven(block), setup.settings.time_step, low, setup.grid.spacing)[0]
    inherited = name == "frequency" and own.frequency is None
    key = "problem.wavelet.frequency" if inherited else f"blocks.{block}.{name}"

    def fits(value: float) -> bool:
        other = copy(setup)
        other.blocks = [*setup.blocks]
        other.blocks[block] = own.model_copy(update={name: value})
        try:
            _check_end(other, block)
            simulations = _simulations(other, block)
        except (SimulationError, StudyError):
            return False  # so low, or so long, that something else would be refused
        return all(
            stability.resolution(driven, simulator.time_step, low, simulator.grid.spacing)[1]
            >= simulator.min_points_per_wavelength
            for simulator, driven in simulations
        )

    return key, stability.highest_that_fits(fits, above=present, near=0.95 * ratio * present)


def _object(
    setup: WaveSetup, block: int, check: Callable[[WaveSetup, int], None], keys: tuple[str, ...]
) -> StudyError | None:
    """Keep what is wrong with a block, with the keys of the study that it follows from, and return it."""
    fault = _fault_of(check, setup, block)
    if fault is not None:
        setup.objections.append((fault, tuple(key.format(block=block) for key in keys)))
    return fault


def _check_end(setup: WaveSetup, block: int) -> None:
    """Refuse a wavelet that would be cut off by the end of the records."""
    s, frequency, name = setup.settings, setup.frequency(block), f"blocks.{block}"
    if isinstance(s.wavelet, spec.FromFile):
        records.check_tail(setup.wavelet(block), frequency, s.time_step, name)
        return
    burst = s.wavelet if isinstance(s.wavelet, spec.ToneBurst) else None
    end = ricker_end(frequency) if burst is None else tone_burst_end(frequency, burst.cycles)
    records.check_end(end, frequency, s.time_step, s.steps, name)


def _check_hearing(setup: WaveSetup, block: int) -> None:
    """Refuse records in which nothing arrives: no update would change anything."""
    s, fastest = setup.settings, float(setup.start.max())
    nearest = float(min(setup.offsets(shot)[setup.receivers_of(shot)].min() for shot in range(len(setup.sources))))
    records.check_hearing(
        setup.pulse(block)[0] + nearest / fastest,
        partial(setup.arrivals, block),
        speed=fastest,
        time_step=s.time_step,
        steps=s.steps,
        name=f"blocks.{block}",
    )


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
