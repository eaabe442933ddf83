"""Whether records are long enough: for the wavelet to end in them, and for the waves to arrive.

A wave takes at least distance ÷ fastest speed from a source to a receiver, and, as waves take the fastest way (Fermat),
at most as long as it takes along the straight line between them::

    d / max c  ≤  first arrival  ≤  ∫ ds / c
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import StudyError
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.stability import unit_hint
from thalweg.problems.waves.wavelets import QUIET

RAY_PIECES = 100  # in which the slowness along a straight line is taken to be constant


def straight_times(
    grid: Grid, speed: NDArray[np.floating], source: ArrayLike, receivers: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the travel times, s, along the straight lines from a source, (2,) in m, to receivers, (n, 2) in m.

    Args:
        grid: where the model lives.
        speed: the model, m/s.
        source: inside of the model, and so are the receivers.
        receivers: as well.

    >>> import numpy as np
    >>> from thalweg.problems.waves import Grid
    >>> grid = Grid((11, 21), spacing=10.0)
    >>> receivers = np.array([(0.0, 20.0), (60.0, 80.0)])
    >>> straight_times(grid, np.full(grid.shape, 2000.0), (0.0, 0.0), receivers).round(6).tolist()
    [0.01, 0.05]
    """
    way = receivers - np.asarray(source)
    share = (np.arange(RAY_PIECES) + 0.5)[:, None, None] / RAY_PIECES
    cells = np.rint((source + share * way) / grid.spacing).astype(np.intp)  # (pieces, receivers, 2)
    slowness = 1.0 / np.asarray(speed, np.float64)[cells[..., 0], cells[..., 1]]
    return np.asarray(np.hypot(*way.T) * slowness.mean(axis=0))


def begin_and_peak(wavelet: NDArray[np.floating], time_step: float) -> tuple[float, float]:
    """Return when a wavelet (steps,) first exceeds 1 % of its peak, and when it is there, s; 0 for silence.

    >>> from thalweg.problems.waves import ricker
    >>> begin_and_peak(ricker(10.0, 0.001, 400), 0.001)
    (0.065, 0.15)
    """
    size = np.abs(wavelet)
    return int((size > QUIET * size.max()).argmax()) * time_step, int(size.argmax()) * time_step


def check_end(end: float, frequency: float, time_step: float, steps: int, name: str) -> None:
    """Raise `StudyError` where an analytic wavelet, over at ``end`` s, is cut off by the end of the records."""
    record = (steps - 1) * time_step
    if end > record:
        raise StudyError(
            f"{name}: the wavelet of {frequency:g} Hz falls below {QUIET:.0%} of its peak after {end:.4g} s, and would "
            f"be cut off by the end of the records at {record:.4g} s. It needs steps = {steps_to(end, time_step)} at "
            "least, and the waves' way to the receivers comes on top; or a higher frequency. Frequencies are in Hz, "
            "time_step is in s."
        )


def check_tail(wavelet: NDArray[np.floating], frequency: float, time_step: float, name: str) -> None:
    """Raise `StudyError` unless a sampled wavelet (steps,) has come to rest half a period before the records end."""
    size = np.abs(wavelet)
    tail = float(size[-ceil(0.5 / (frequency * time_step)) :].max() / size.max())
    if tail > QUIET:
        raise StudyError(
            f"{name}: in the last half period of the records the wavelet still has {tail:.1%} of its peak; more than "
            f"{QUIET:.0%} would be cut off. Make it end earlier (taper its end to zero), or use longer records."
        )


def check_hearing(
    earliest: float,
    arrivals: Callable[[], NDArray[np.float64]],
    *,
    speed: float,
    time_step: float,
    steps: int,
    name: str,
) -> None:
    """Raise `StudyError` where no receiver of any shot can hear anything before the records end.

    Args:
        earliest: before this time nothing arrives anywhere, s.
        arrivals: returns the first arrivals at all receivers, s; asked for where there is something to say.
        speed: the fastest, m/s.
        time_step: s.
        steps: samples of a record.
        name: of the block.
    """
    record = (steps - 1) * time_step
    if earliest >= record:
        enough = steps_to(float(arrivals().max()), time_step)
        raise StudyError(
            f"{name}: no receiver can hear anything: the records end at {record:.4g} s, and at {speed:.6g} m/s, the "
            f"fastest of the start, nothing arrives before {earliest:.4g} s. With steps = {enough} the "
            f"first arrivals are heard everywhere.{unit_hint(speed)}"
        )


def steps_to(end: float, time_step: float) -> int:
    """Return how many samples a record needs whose last one is not before ``end`` s.

    >>> steps_to(0.5, 0.25), steps_to(0.51, 0.25)
    (3, 4)
    """
    return ceil(end / time_step * (1.0 - 1e-12)) + 1
