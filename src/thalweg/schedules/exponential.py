"""Exponential decay: η = η₀·γᵗ.

t counts completed epochs (or iterations), so the first update uses η₀. The MXNet dialect counts from 1 as its
page does.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from thalweg.rules.ranges import Interval, finite, open_fraction
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.powers import power
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Exp(Schedule):
    """η = η₀·γᵗ, t = completed epochs or iterations.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        gamma: γ, the factor per epoch or iteration, between 0 and 1.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: γ is not inside (0, 1), or η₀ is not a finite number.

    Example:
        >>> from thalweg.schedules import Exp, OptimizationState
        >>> Exp(10.0, gamma=0.5)(OptimizationState(curr_epoch=3))
        2.5
    """

    kind: ClassVar[str] = "exp"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite, "gamma": open_fraction}
    initial: float
    _: KW_ONLY
    gamma: float = 0.9
    decay_on_iteration: bool = False

    def __call__(self, state: State) -> float:
        """η₀·γᵗ."""
        t = count(state, iterations=self.decay_on_iteration)
        return plain(self.initial * power(self.gamma, t))
