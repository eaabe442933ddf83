"""What a schedule is: a pure function of the optimization state.

Any hyperparameter takes a number, a :class:`Schedule`, or any callable from :class:`OptimizationState` to a
number. A schedule holds no state of its own, so adding one changes nothing that is saved, and its value at
any point can be asked for without disturbing anything. The exception is :class:`Plateau`, which follows a metric;
``observe``, ``state`` and ``restore`` are there for it, reach it inside other schedules, and do nothing elsewhere.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.rules.calling import Called, kind_of
from thalweg.rules.ranges import Interval, number
from thalweg.rules.spelling import unknown
from thalweg.schedules.elsewhere import ADVICE
from thalweg.schedules.plotting import draw
from thalweg.schedules.state import OptimizationState, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_how_many = Interval(0.0, math.inf, closed_high=False, whole=True)


@dataclass(frozen=True)
class Schedule(Called, abc.ABC):
    """A hyperparameter as a function of the optimization state; subclasses are frozen dataclasses.

    A subclass sets ``kind``, its name in study files; ``ranges``, where its numbers are valid; and ``choices``, which
    words it takes. What it counts is ``decay_on_iteration``, if it has such a field, else epochs.

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

    noun = "schedule"
    advice = ADVICE
    kind: ClassVar[str]
    ranges: ClassVar[dict[str, Interval]] = {}
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        owner = f"schedule {kind_of(self)}"
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in self.ranges:
                if value is None and f.default is None:
                    continue
                interval = self.ranges[f.name]
                real = number(value, interval, name=f.name, owner=owner)
                object.__setattr__(self, f.name, int(real) if interval.whole else real)
            elif f.name in self.choices:
                if not isinstance(value, str) or value not in self.choices[f.name]:
                    raise unknown(f"{f.name} of {owner}:", str(value), self.choices[f.name])
            elif isinstance(f.default, bool) and not isinstance(value, bool):
                raise HyperparameterError(f"{owner}: {f.name} is {value!r}; give True or False", name=f.name)

    @abc.abstractmethod
    def __call__(self, state: State) -> float:
        """The value during the epoch, batch and iteration that ``state`` tells.

        Args:
            state: an :class:`OptimizationState`, or :class:`Counts` of any library, traced or not.

        Returns:
            A Python float where the counts are numbers; else a scalar or array of the library of the counts.
        """

    def values(self, n: int) -> np.ndarray:
        """The first n values: one an epoch, or one an iteration if that is what the schedule counts.

        Args:
            n: how many.

        Returns:
            Shape ``(n,)``, float64; the first is the initial value.

        Raises:
            HyperparameterError: n is no whole number, or negative.

        Example:
            >>> from thalweg.schedules import Exp
            >>> Exp(8.0, gamma=0.5).values(4)
            array([8., 4., 2., 1.])
        """
        n = int(number(n, _how_many, name="n", owner=f"values of schedule {self.kind}"))
        return np.array([self(OptimizationState(curr_epoch=k, curr_iter=k)) for k in range(1, n + 1)], np.float64)

    @property
    def counts(self) -> str:
        """What the schedule counts, in words: ``"epochs"``, ``"iterations"``, or both."""
        return "iterations" if getattr(self, "decay_on_iteration", False) else "epochs"

    def _standing(self) -> Schedule | None:
        """The part that does not move as long as no epoch begins, as far as that is known."""
        return self if getattr(self, "decay_on_iteration", None) is False else None

    def plot(self, n: int, *, axes: Axes | None = None, label: str | None = None) -> Axes:
        """Draw the first n values against the completed epochs or iterations.

        Args:
            n: how many.
            axes: where to draw; by default the axes of a figure of its own, which needs no display.
            label: the name in a legend. Without one, several lines in the same axes are named after their kinds.

        Returns:
            The axes; ``plot(n).figure.savefig("schedule.png")`` makes a file.

        Raises:
            HyperparameterError: n is no whole number, or negative.

        Example:
            >>> from thalweg.schedules import Exp
            >>> Exp(8.0, gamma=0.5).plot(30).get_xlabel()
            'completed epochs'
        """
        return draw(self.values(n), counts=self.counts, kind=self.kind, label=label, axes=axes)

    def get_config(self) -> dict[str, Any]:
        """The schedule as JSON: its kind and its parameters, without state."""
        return {"kind": self.kind, **{f.name: _as_json(getattr(self, f.name)) for f in fields(self)}}

    def observe(self, value: float) -> None:
        """Tell every :class:`Plateau` in this schedule, once, what the metric is now; others do not look at it.

        Args:
            value: the metric, in its own unit.

        Raises:
            HyperparameterError: it is no number.
        """
        for schedule in {id(found): found for found in self._with_state()}.values():
            schedule.observe(value)

    def forget_best(self) -> None:
        """Every :class:`Plateau` in this schedule forgets the best metric; what it has reduced stays reduced."""
        for schedule in {id(found): found for found in self._with_state()}.values():
            schedule.forget_best()

    def state(self) -> dict[str, Any]:
        """What decides the next value besides counts and parameters, as JSON; empty without a :class:`Plateau`."""
        return {place: saved for place, part in self._parts() if (saved := part.state())}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state()`` was read: all of it, or nothing if it does not fit.

        Args:
            state: what ``state()`` returned.

        Raises:
            StateMismatchError: it is of another schedule, or damaged; says what does not fit.
        """
        for change in self._restoring(state):
            change()

    def _restoring(self, state: Any) -> list[Callable[[], None]]:
        """The changes that ``restore`` makes, after everything was checked."""
        parts = {place: part for place, part in self._parts() if part.state()}
        if not isinstance(state, dict) or state.keys() != parts.keys():
            got = sorted(map(str, state)) if isinstance(state, dict) else repr(state)
            raise StateMismatchError(
                f"schedule {self.kind}: the saved state has {got}, expected {sorted(parts)}; "
                "restore what state() of the same schedule returned",
                kind=self.kind,
            )
        return [change for place, part in parts.items() for change in part._restoring(state[place])]

    def _parts(self) -> Iterator[tuple[str, Schedule]]:
        """The schedules that this one is made of, and where they are."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Schedule):
                yield f.name, value
            elif isinstance(value, tuple):
                yield from ((f"{f.name}.{i}", part) for i, part in enumerate(value) if isinstance(part, Schedule))

    def _with_state(self) -> Iterator[Schedule]:
        """The schedules inside this one (or this one) that hold state."""
        for _, part in self._parts():
            yield from part._with_state()


def _as_json(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.get_config()
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
