"""Less whenever a metric stops getting better: η = max(η₀·F, minimum), F′ = F·factor after too many bad values. ::

    better    v < best − threshold·|best|    (mode "min", threshold_mode "rel"; "abs": without |best|)
    bad       how many values in a row were not better; those during a cooldown are not counted
    bad > patience:    F′ = F·factor, bad = 0, and the next ``cooldown`` values are a cooldown

The one schedule with state: it is told a metric with ``observe``, and saves what it remembers with ``state``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple, cast

from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.rules.ranges import Interval, finite, nonnegative, number, open_fraction
from thalweg.schedules.base import Schedule
from thalweg.schedules.state import State

_count = Interval(0.0, math.inf, closed_high=False, whole=True)
_part = Interval(0.0, 1.0)


class Progress(NamedTuple):
    """What a :class:`Plateau` remembers: the best metric, two counts of values, and the factor so far."""

    best: float | None = None
    bad_count: int = 0
    cooldown_count: int = 0
    factor: float = 1.0


@dataclass(frozen=True)
class Plateau(Schedule):
    """η = max(η₀·F, minimum), where F is multiplied by ``factor`` when a metric has stopped getting better.

    A call only reads it: inside a compiled loop its value is the constant that it was when the loop was traced.
    Two are equal if their parameters are.

    Args:
        initial: η₀, in the unit of the hyperparameter it is for.
        factor: what F is multiplied by, between 0 and 1.
        patience: how many bad values in a row are accepted; the next one reduces. 0 or more.
        threshold: by how much a value has to be better, 0 or more: a part of the best ("rel"), or in the metric's
            unit ("abs").
        threshold_mode: ``"rel"`` or ``"abs"``.
        mode: ``"min"`` if less is better, ``"max"`` if more is.
        cooldown: after a reduction, how many values do not count as bad. 0 or more.
        minimum: where it stops falling, in the unit of η₀, at most η₀.

    Raises:
        HyperparameterError: a number is out of range, or a mode is unknown (naming the nearest).

    Example:
        >>> from thalweg.schedules import OptimizationState, Plateau
        >>> schedule, state = Plateau(8.0, factor=0.5, patience=1), OptimizationState()
        >>> for misfit in (3.0, 2.0, 2.0, 2.0):
        ...     schedule.observe(misfit)
        >>> schedule(state)
        4.0
        >>> schedule.state()
        {'best': 2.0, 'bad_count': 0, 'cooldown_count': 0, 'factor': 0.5}

    PyTorch's ``ReduceLROnPlateau`` with ``eps`` 0. Optax's ``reduce_on_plateau`` and Keras's ``ReduceLROnPlateau``
    reduce at the last of ``patience`` bad values, not at the one after it. With a relative threshold and a *negative*
    best value PyTorch takes worse values for better ones (best·(1 − threshold) lies above best); we subtract
    threshold·|best|. A metric that is NaN or infinite is never better, also −∞, which would be the best for ever.
    """

    kind: ClassVar[str] = "plateau"
    ranges: ClassVar[dict[str, Interval]] = {
        "initial": finite,
        "factor": open_fraction,
        "patience": _count,
        "threshold": nonnegative,
        "cooldown": _count,
        "minimum": finite,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"threshold_mode": ("rel", "abs"), "mode": ("min", "max")}
    initial: float
    _: KW_ONLY
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    mode: str = "min"
    cooldown: int = 0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum > self.initial:
            raise HyperparameterError(
                f"schedule {self.kind}: minimum is {self.minimum}, above initial, {self.initial}; give one below it",
                name="minimum",
                value=self.minimum,
            )
        self._remember(Progress())

    def __call__(self, state: State) -> float:
        """max(η₀·F, minimum), a number whatever the counts are."""
        return max(self.initial * self._progress.factor, self.minimum)

    def observe(self, value: float) -> None:
        """Tell the metric, once an epoch or whenever it is known.

        Args:
            value: the metric, a number or a 0-d array of any library. NaN and infinities are never better.

        Raises:
            HyperparameterError: it is no number.
        """
        metric = _metric(value)
        best, bad, cooling, factor = self._progress
        if self._is_better(metric, best):
            best, bad = metric, 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > self.patience:
            if self.initial * factor > self.minimum:
                factor *= self.factor
            cooling, bad = self.cooldown, 0
        self._remember(Progress(best, bad, cooling, factor))

    def forget_best(self) -> None:
        """What is told from now on is another metric: the best so far and the counts are forgotten, the factor stays.

        Example:
            >>> from thalweg.schedules import Plateau
            >>> schedule = Plateau(1.0, factor=0.5, patience=0)
            >>> for loss in (3.0, 4.0):
            ...     schedule.observe(loss)
            >>> schedule.forget_best()
            >>> schedule.state()
            {'best': None, 'bad_count': 0, 'cooldown_count': 0, 'factor': 0.5}
        """
        self._remember(Progress(factor=self._progress.factor))

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON: best (None before the first), bad_count, cooldown_count and factor."""
        return self._progress._asdict()

    def _restoring(self, state: Any) -> list[Callable[[], None]]:
        if not isinstance(state, dict) or state.keys() != set(Progress._fields):
            got = sorted(map(str, state)) if isinstance(state, dict) else repr(state)
            raise StateMismatchError(
                f"schedule {self.kind}: the saved state has {got}, expected {list(Progress._fields)}", kind=self.kind
            )
        intervals = {
            "best": finite,
            "bad_count": Interval(0.0, self.patience, whole=True),
            "cooldown_count": Interval(0.0, self.cooldown, whole=True),
            "factor": _part,
        }
        found: dict[str, float | None] = {}
        for name, interval in intervals.items():
            try:
                owner = f"saved state of schedule {self.kind}"
                missing = name == "best" and state[name] is None
                found[name] = None if missing else number(state[name], interval, name=name, owner=owner)
            except HyperparameterError as error:
                raise StateMismatchError(f"{error}; restore what state() of the same schedule returned") from error
        bad, cooling = int(found["bad_count"] or 0), int(found["cooldown_count"] or 0)
        progress = Progress(found["best"], bad, cooling, cast(float, found["factor"]))
        return [lambda: self._remember(progress)]

    def _with_state(self) -> Iterator[Schedule]:
        yield self

    def _is_better(self, metric: float, best: float | None) -> bool:
        if not math.isfinite(metric) or best is None:
            return math.isfinite(metric)
        margin = self.threshold * abs(best) if self.threshold_mode == "rel" else self.threshold
        return metric < best - margin if self.mode == "min" else metric > best + margin

    @property
    def _progress(self) -> Progress:
        return cast(Progress, vars(self)["progress"])

    def _remember(self, progress: Progress) -> None:
        # No field: it is no parameter, so it belongs neither to the config nor to what makes two schedules equal.
        vars(self)["progress"] = progress


def _metric(value: Any) -> float:
    """A metric as a float; NaN and infinities are metrics."""
    if not isinstance(value, bool | str | bytes) and getattr(value, "ndim", 0) == 0:
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise HyperparameterError(f"schedule plateau: the metric is {value!r}; give a real number", name="value")
