"""Decay in equal stairs: η = η₀·γ^⌊t/p⌋.

t counts completed epochs (or iterations), so the first p updates use η₀.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from thalweg.rules.ranges import Interval, counts, finite, open_fraction
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain, whole_periods
from thalweg.schedules.powers import power
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Step(Schedule):
    """η = η₀·γ^⌊t/p⌋, t = completed epochs or iterations.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        period: p, how many epochs or iterations a stair is long, a whole number.
        gamma: γ, the factor per stair, between 0 and 1.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: the period is no positive whole number, γ is not inside (0, 1), or η₀ is not a finite
            number.

    Example:
        >>> from thalweg.schedules import Step
        >>> Step(8.0, period=2, gamma=0.5).values(5)
        array([8., 8., 4., 4., 2.])

    PyTorch's ``StepLR`` is the same; so is Optax's ``exponential_decay`` with ``staircase``.
    """

    kind: ClassVar[str] = "step"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite, "period": counts, "gamma": open_fraction}
    initial: float
    _: KW_ONLY
    period: int
    gamma: float = 0.1
    decay_on_iteration: bool = False

    def __call__(self, state: State) -> float:
        """η₀·γ^⌊t/p⌋."""
        t = count(state, iterations=self.decay_on_iteration)
        return plain(self.initial * power(self.gamma, whole_periods(t, self.period)))
