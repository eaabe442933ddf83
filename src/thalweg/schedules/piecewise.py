"""Values that hold from one boundary to the next: η = vₖ for bₖ ≤ t < bₖ₊₁, and η₀ before b₁.

t counts completed epochs (or iterations), so the first b₁ updates use η₀.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate
from numbers import Real
from operator import mul
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import where
from thalweg.rules.ranges import Interval, finite, nonnegative, number
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.lists import increasing, reals
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Piecewise(Schedule):
    """η = vₖ for bₖ ≤ t < bₖ₊₁, or η = η₀·f₁·…·fₖ there; t = completed epochs or iterations.

    Args:
        initial: η₀, the value before the first boundary, in the unit of the hyperparameter it is for.
        boundaries: b, when the value changes, in epochs or iterations; whole, positive and increasing.
        levels: v, the value from each boundary on, in the unit of η₀. Give this or ``factor``.
        factor: f, what the value is multiplied by, 0 or more: one for all boundaries, or one for each.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: the boundaries are empty, do not increase or are no positive whole numbers; both of
            ``levels`` and ``factor`` are given or neither, not one for each boundary, or a value is not finite.

    Example:
        >>> from thalweg.schedules import Piecewise
        >>> Piecewise(1.0, boundaries=[1, 3], levels=[0.5, 0.2]).values(5)
        array([1. , 0.5, 0.5, 0.2, 0.2])
        >>> Piecewise(8.0, boundaries=[1, 3], factor=0.5).values(5)
        array([8., 4., 4., 2., 2.])

    PyTorch's ``MultiStepLR`` has one factor for all (and may repeat a milestone), Optax's
    ``piecewise_constant_schedule`` one for each, Keras's ``PiecewiseConstantDecay`` levels; Keras changes one count
    later, at t > b.
    """

    kind: ClassVar[str] = "piecewise"
    ranges: ClassVar[dict[str, Interval]] = {"initial": finite}
    initial: float
    _: KW_ONLY
    boundaries: Sequence[int]
    levels: Sequence[float] | None = None
    factor: float | Sequence[float] | None = None
    decay_on_iteration: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"schedule {self.kind}"
        boundaries = increasing(self.boundaries, name="boundaries", owner=owner)
        object.__setattr__(self, "boundaries", boundaries)
        if (self.levels is None) == (self.factor is None):
            got = "neither levels nor factor" if self.levels is None else "both levels and factor"
            raise HyperparameterError(f"{owner} has {got}; give one of them", owner=owner)
        if self.levels is not None:
            object.__setattr__(self, "levels", self._one_each(self.levels, finite, "levels", owner))
        elif isinstance(self.factor, Real):
            object.__setattr__(self, "factor", number(self.factor, nonnegative, name="factor", owner=owner))
        else:
            object.__setattr__(self, "factor", self._one_each(self.factor, nonnegative, "factor", owner))
        for level in self._levels():
            number(level, finite, name="a level (the initial value times its factors)", owner=owner)

    def __call__(self, state: State) -> float:
        """The value of the piece that t is in."""
        t = count(state, iterations=self.decay_on_iteration)
        value = 0.0 * t + self.initial
        for boundary, level in zip(self.boundaries, self._levels(), strict=True):
            value = where(t >= boundary, level, value)
        return plain(value)

    def _levels(self) -> Sequence[float]:
        """The value from each boundary on."""
        if self.levels is not None:
            return self.levels
        factors = self.factor if isinstance(self.factor, tuple) else (self.factor,) * len(self.boundaries)
        return list(accumulate(factors, mul, initial=self.initial))[1:]

    def _one_each(self, values: Any, interval: Interval, name: str, owner: str) -> tuple[float, ...]:
        found = reals(values, interval, name=name, owner=owner)
        if len(found) != len(self.boundaries):
            raise HyperparameterError(
                f"{owner}: {name} has {len(found)} items and boundaries {len(self.boundaries)}; give one for each",
                owner=owner,
                name=name,
                value=found,
            )
        return found
