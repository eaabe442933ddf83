"""A schedule that never changes: η = η₀."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.ranges import Interval, finite
from thalweg.schedules.base import Schedule
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Fixed(Schedule):
    """η = η₀.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.

    Raises:
        HyperparameterError: the value is not a finite number.

    Example:
        >>> from thalweg.schedules import Fixed
        >>> Fixed(0.5).values(3)
        array([0.5, 0.5, 0.5])
    """

    kind: ClassVar[str] = "fixed"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite}
    initial: float

    def __call__(self, state: State) -> float:
        """η₀, a number whatever the counts are."""
        return self.initial
