"""A product of schedules: η = s₁·s₂·…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import ClassVar, cast

from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import plain
from thalweg.schedules.fixed import Fixed
from thalweg.schedules.nesting import as_schedules
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Chain(Schedule):
    """η = s₁·s₂·…, each counting its own epochs or iterations.

    Args:
        factors: s, one or more schedules or numbers. One of them has the unit of the hyperparameter, the others none.

    Raises:
        HyperparameterError: the list is empty, or an item is neither a schedule nor a number.

    Example:
        >>> from thalweg.schedules import Chain, Exp, Step
        >>> Chain([Exp(8.0, gamma=0.5), Step(1.0, period=2, gamma=0.1)]).values(4)
        array([8. , 4. , 0.2, 0.1])

    PyTorch's ``ChainedScheduler``, whose members multiply one learning rate in turn.
    """

    kind: ClassVar[str] = "chain"
    factors: Sequence[Schedule | float]

    def __post_init__(self) -> None:
        super().__post_init__()
        factors = as_schedules(self.factors, name="factors", owner=f"schedule {self.kind}")
        object.__setattr__(self, "factors", factors)

    def __call__(self, state: State) -> float:
        """s₁·s₂·…"""
        factors = cast(tuple[Schedule, ...], self.factors)
        return plain(reduce(mul, (factor(state) for factor in factors)))

    @property
    def counts(self) -> str:
        """What the factors count that are not constant."""
        factors = cast(tuple[Schedule, ...], self.factors)
        counted = sorted({factor.counts for factor in factors if not isinstance(factor, Fixed)})
        return " and ".join(counted) or "epochs"

    def _standing(self) -> Schedule | None:
        factors = cast(tuple[Schedule, ...], self.factors)
        return next((part for factor in factors if (part := factor._standing()) is not None), None)
