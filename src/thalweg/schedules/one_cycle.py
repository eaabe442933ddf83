"""Up to a peak and down far below the start, once in a run: the 1cycle policy. ::

    rise    η from peak/div_factor            to peak                                 until t = pct_start·T − 1
    fall    η from peak                       to peak/(div_factor·final_div_factor)   until t = T − 1

each along half a cosine or a straight line; with ``three_phase`` the fall first goes back to the start, as fast as it
rose, and then down. From t = T − 1 on, the last update of T, the final value stays.

t counts completed iterations (or epochs). L. N. Smith and N. Topin, Super-Convergence: Very Fast Training of Neural
Networks Using Large Learning Rates, 2018, https://arxiv.org/abs/1708.07120 (there with straight lines and three
phases; the two phases with cosines are fast.ai's).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import cos, minimum, where
from thalweg.rules.ranges import Interval, counts, finite, open_fraction, positive
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.state import State


def _along_a_cosine(first: float, last: float, done: Any, length: float) -> Any:
    return last + (first - last) / 2.0 * (1.0 + cos(math.pi * done / length))


def _along_a_line(first: float, last: float, done: Any, length: float) -> Any:
    return (first * (length - done) + last * done) / length  # exact at both ends


_ANNEALING: Mapping[str, Callable[[float, float, Any, float], Any]] = {
    "cosine": _along_a_cosine,
    "linear": _along_a_line,
}


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from peak/div_factor to the peak, then down to peak/(div_factor·final_div_factor).

    Args:
        peak: the value at the top, in the unit of the hyperparameter it is for.
        duration: T, how many iterations or epochs it lasts in all, a whole number.
        pct_start: which part of T the rise takes, between 0 and 1.
        div_factor: peak/η₀, what the peak is divided by for the first value; below 1 it goes down and up again, as a
            momentum does.
        final_div_factor: what the first value is divided by for the last one.
        annealing: ``"cosine"`` or ``"linear"``.
        three_phase: go back to the first value as fast as it rose, and down in the rest of the time.
        decay_on_iteration: count iterations, which is the default here; ``False`` counts epochs.

    Raises:
        HyperparameterError: a number is out of range, the annealing is unknown (naming the nearest), or a phase would
            have no length: pct_start·T has to be above 1 and, with three phases, 2·pct_start·T − 2 below T − 1.

    Example:
        >>> from thalweg.schedules import OneCycle
        >>> OneCycle(1.0, duration=8, pct_start=0.5, div_factor=4.0, annealing="linear").values(9).round(2)
        array([0.25, 0.5 , 0.75, 1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])

    PyTorch's ``OneCycleLR`` is the same (``max_lr``, ``total_steps``, ``anneal_strategy``), but has no values after T.
    Optax's ``cosine_onecycle_schedule`` and ``linear_onecycle_schedule`` reach peak and end one count later.
    """

    kind: ClassVar[str] = "one_cycle"
    ranges: ClassVar[dict[str, Interval]] = {
        "peak": finite,
        "duration": counts,
        "pct_start": open_fraction,
        "div_factor": positive,
        "final_div_factor": positive,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"annealing": tuple(_ANNEALING)}
    peak: float
    _: KW_ONLY
    duration: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    annealing: str = "cosine"
    three_phase: bool = False
    decay_on_iteration: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        begin = 0.0
        for end, _, last in self._phases():
            if end <= begin or not math.isfinite(last):
                raise HyperparameterError(
                    f"schedule {self.kind}: duration {self.duration} with pct_start {self.pct_start} has a phase from "
                    f"{begin:g} to {end:g} that ends at {last:g}; give a longer duration or another pct_start",
                    name="duration",
                    value=self.duration,
                )
            begin = end

    def __call__(self, state: State) -> float:
        """The value on the way of the phase that t is in."""
        t = minimum(count(state, iterations=self.decay_on_iteration), self.duration - 1)
        way = _ANNEALING[self.annealing]
        begin, value = 0.0, 0.0 * t
        for end, first, last in self._phases():
            value = where(t >= begin, way(first, last, t - begin, end - begin), value)
            begin = end
        return plain(value)

    def _phases(self) -> list[tuple[float, float, float]]:
        """For each phase the count at its end, the value at its begin and the value at its end."""
        start = self.peak / self.div_factor
        final = start / self.final_div_factor
        top, end = self.pct_start * self.duration - 1.0, self.duration - 1.0
        if self.three_phase:
            return [(top, start, self.peak), (2.0 * top, self.peak, start), (end, start, final)]
        return [(top, start, self.peak), (end, self.peak, final)]
