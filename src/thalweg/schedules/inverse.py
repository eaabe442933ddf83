"""Inverse decay: η = η₀·(1 + γt)^(−power).

t counts completed epochs (or iterations), so the first update uses η₀. The MXNet dialect counts from 1 as its
page does.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from thalweg.rules.ranges import Interval, finite, nonnegative, positive
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Inv(Schedule):
    """η = η₀·(1 + γt)^(−power), t = completed epochs or iterations.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        gamma: γ, per epoch or iteration, positive.
        power: how fast it falls in the end; 0 is constant.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: γ is not positive, the power is negative, or η₀ is not a finite number.

    Example:
        >>> from thalweg.schedules import Inv
        >>> Inv(1.0, gamma=1.0, power=1.0).values(4)
        array([1.        , 0.5       , 0.33333333, 0.25      ])
    """

    kind: ClassVar[str] = "inv"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite, "gamma": positive, "power": nonnegative}
    initial: float
    _: KW_ONLY
    gamma: float = 0.9
    power: float = 0.5
    decay_on_iteration: bool = False

    def __call__(self, state: State) -> float:
        """η₀·(1 + γt)^(−power)."""
        t = count(state, iterations=self.decay_on_iteration)
        return plain(self.initial * (1.0 + self.gamma * t) ** -self.power)
