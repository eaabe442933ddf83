"""What a schedule is: a pure function of the optimization state.

Any hyperparameter takes a number, a :class:`Schedule`, or any callable from :class:`OptimizationState` to a
number. A schedule holds no state of its own, so adding one changes nothing that is saved, and its value at
any point can be asked for without disturbing anything.
"""

from __future__ import annotations

import abc
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import Interval, number
from thalweg.rules.spelling import unknown
from thalweg.schedules.state import OptimizationState


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """A hyperparameter as a function of the optimization state; subclasses are frozen dataclasses.

    A subclass sets ``kind``, its name in study files, and ``ranges``, where its numbers are valid.

    Example:
        >>> from dataclasses import dataclass
        >>> from thalweg.schedules import OptimizationState, Schedule
        >>> @dataclass(frozen=True)
        ... class Halves(Schedule):
        ...     kind = "halves"
        ...     initial: float
        ...     def __call__(self, state):
        ...         return self.initial / (1 + state.completed_iterations)
        >>> Halves(1.0).values(3)
        array([1.        , 0.5       , 0.33333333])
    """

    kind: ClassVar[str]
    ranges: ClassVar[dict[str, Interval]] = {}

    def __post_init__(self) -> None:
        for name, interval in self.ranges.items():
            value = number(getattr(self, name), interval, name=name, owner=f"schedule {self.kind}")
            object.__setattr__(self, name, value)
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(f.default, bool) and not isinstance(value, bool):
                raise HyperparameterError(
                    f"schedule {self.kind}: {f.name} is {value!r}; give True or False", name=f.name
                )

    @abc.abstractmethod
    def __call__(self, state: OptimizationState) -> float:
        """The value during the epoch, batch and iteration that ``state`` tells."""

    def values(self, n: int) -> np.ndarray:
        """The first n values: one an epoch, or one an iteration if that is what the schedule counts.

        Args:
            n: how many.

        Returns:
            Shape ``(n,)``, float64; the first is the initial value.

        Example:
            >>> from thalweg.schedules import Exp
            >>> Exp(8.0, gamma=0.5).values(4)
            array([8., 4., 2., 1.])
        """
        return np.array([self(OptimizationState(curr_epoch=k, curr_iter=k)) for k in range(1, n + 1)], np.float64)

    def get_config(self) -> dict[str, Any]:
        """The schedule as JSON: its kind and its parameters."""
        return {"kind": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


def build_schedule(table: dict[str, Any], registry: dict[str, type[Schedule]]) -> Schedule:
    """A schedule from a table such as ``{"kind": "exp", "initial": 10, "gamma": 0.9}``.

    Args:
        table: the kind and the parameters.
        registry: the known kinds.

    Returns:
        The schedule.

    Raises:
        HyperparameterError: an unknown kind or parameter (naming the nearest), a missing one, or a value out
            of range.
    """
    parameters = dict(table)
    kind = parameters.pop("kind", None)
    if not isinstance(kind, str) or kind not in registry:
        raise unknown("schedule", str(kind), registry)
    cls = registry[kind]
    known = {f.name: f for f in fields(cls)}
    for name in parameters:
        if name not in known:
            raise unknown(f"parameter of schedule {kind!r}", name, known)
    for name, declared in known.items():
        if declared.default is MISSING and name not in parameters:
            raise HyperparameterError(f"schedule {kind!r} needs {name!r}, which has no default", name=name)
    return cls(**parameters)
