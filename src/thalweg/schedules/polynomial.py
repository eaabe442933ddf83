"""A way from one value to another in a given time: η = η₁ + (η₀ − η₁)·(1 − t/T)^power, and η₁ from T on.

With power 1, the default, it is a straight line, up or down. t counts completed epochs (or iterations), so the first
update uses η₀, and η₁ is reached after T of them.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from thalweg.rules.arithmetic import minimum
from thalweg.rules.ranges import Interval, counts, finite, positive
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Polynomial(Schedule):
    """η = η₁ + (η₀ − η₁)·(1 − min(t, T)/T)^power, t = completed epochs or iterations.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        duration: T, how many epochs or iterations the way takes, a whole number.
        final: η₁, in the unit of η₀; may be above it.
        power: 1 is a straight line; above 1 most of the way is made early, below 1 late. Positive.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: the duration is no positive whole number, the power is not positive, or a value is not a
            finite number.

    Example:
        >>> from thalweg.schedules import Polynomial
        >>> Polynomial(1.0, duration=4, final=0.5).values(6)
        array([1.   , 0.875, 0.75 , 0.625, 0.5  , 0.5  ])

    PyTorch's ``PolynomialLR`` (with ``final`` 0) and ``LinearLR`` (power 1), Optax's ``polynomial_schedule`` and
    ``linear_schedule``, Keras's ``PolynomialDecay``. A wait before it is :class:`Join` with a number.
    """

    kind: ClassVar[str] = "polynomial"
    ranges: ClassVar[dict[str, Interval]] = {
        "initial": finite,
        "duration": counts,
        "final": finite,
        "power": positive,
    }
    initial: float
    _: KW_ONLY
    duration: int
    final: float = 0.0
    power: float = 1.0
    decay_on_iteration: bool = False

    def __call__(self, state: State) -> float:
        """η₁ + (η₀ − η₁)·(1 − min(t, T)/T)^power."""
        t = count(state, iterations=self.decay_on_iteration)
        # Not 1 − t/T: compiled as t·(1/T) that is not exactly 0 at T, and a negative number has no root.
        left = (self.duration - minimum(t, self.duration)) / self.duration
        return plain(self.final + (self.initial - self.final) * left**self.power)
