"""Half a cosine from one value down to another, once or with warm restarts. ::

    η = η_min + ½·(η₀ − η_min)·(1 + cos(π·T_cur/T_i))          SGDR, equation 5

Without restarts T_cur = min(t, T). With them T_cur is how far the present cycle is and T_i how long it is: the first
lasts T, each later one t_mult times as long as the one before it, and each begins at η₀ again.

t counts completed epochs (or iterations). I. Loshchilov and F. Hutter, SGDR: Stochastic Gradient Descent with Warm
Restarts, ICLR 2017, https://arxiv.org/abs/1608.03983.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import cos, minimum, where
from thalweg.rules.ranges import Interval, counts, finite
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain, whole_periods
from thalweg.schedules.state import State

LARGEST_COUNT = 2**53
"""Beyond it a count is no longer a whole number in double precision."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """η = η_min + ½·(η₀ − η_min)·(1 + cos(π·T_cur/T_i)), in completed epochs or iterations.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        period: T, how long the first (or only) way down takes, in epochs or iterations, a whole number.
        minimum: η_min, where it ends, in the unit of η₀.
        restarts: begin again at η₀ after each cycle; otherwise stay at the minimum.
        t_mult: how many times longer each cycle is than the one before it, a whole number; needs ``restarts``.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: the period or t_mult is no positive whole number, a value is not a finite number, or
            t_mult is given without restarts.

    Example:
        >>> from thalweg.schedules import Cosine
        >>> Cosine(1.0, period=2).values(4).round(12)
        array([1. , 0.5, 0. , 0. ])
        >>> Cosine(1.0, period=2, restarts=True, t_mult=2).values(7).round(3)
        array([1.   , 0.5  , 1.   , 0.854, 0.5  , 0.146, 1.   ])

    Without restarts PyTorch's ``CosineAnnealingLR`` (which goes up again after T; we stay at the minimum), Optax's
    ``cosine_decay_schedule`` and Keras's ``CosineDecay`` (whose ``alpha`` is η_min/η₀); with them
    ``CosineAnnealingWarmRestarts`` and ``CosineDecayRestarts`` (with ``m_mul`` 1).
    """

    kind: ClassVar[str] = "cosine"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite, "period": counts, "minimum": finite, "t_mult": counts}
    initial: float
    _: KW_ONLY
    period: int
    minimum: float = 0.0
    restarts: bool = False
    t_mult: int = 1
    decay_on_iteration: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_mult != 1 and not self.restarts:
            raise HyperparameterError(
                f"schedule {self.kind}: t_mult is {self.t_mult} and restarts False, so it would have no effect; "
                "give restarts=True, or leave t_mult out",
                name="t_mult",
                value=self.t_mult,
            )

    def __call__(self, state: State) -> float:
        """η_min + ½·(η₀ − η_min)·(1 + cos(π·T_cur/T_i))."""
        t = count(state, iterations=self.decay_on_iteration)
        start = self._start_of_cycle(t)
        length = self.period + (self.t_mult - 1) * start  # the lengths before it are a geometric sum
        done = minimum(t - start, length)
        return plain(self.minimum + (self.initial - self.minimum) * (1.0 + cos(math.pi * done / length)) / 2.0)

    def _start_of_cycle(self, t: Any) -> Any:
        """At which count the cycle began that t is in; a real number like t."""
        if not self.restarts:
            return 0.0 * t
        if self.t_mult == 1:
            return self.period * whole_periods(t, self.period)
        # The start j cycles after one at s is m^j·s + T(1 + m + … + m^(j−1)). Jumps of 32, 16, …, 1 cycles find the
        # last start that is not above t in whole numbers; a logarithm would not be exact at a restart.
        start = 0.0 * t
        for jump in (32, 16, 8, 4, 2, 1):
            factor = self.t_mult**jump
            ahead = self.period * (factor - 1) // (self.t_mult - 1)
            if ahead <= LARGEST_COUNT:
                later = float(factor) * start + float(ahead)  # floats: JAX's integers may end at 2³¹
                start = where(t >= later, later, start)
        return start
