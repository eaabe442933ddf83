"""From little to what another schedule begins with, and then that schedule. ::

    η = a + (b − a)·t/n        for t < n, with b the first value of the schedule that follows
    η = then(t − n)            from n on

a is a value (``initial``) or a part of b (``fraction``), by default 0. t counts completed iterations (or epochs), so
the first update uses a, and the first that uses b is the one after n. P. Goyal et al., Accurate, Large Minibatch SGD,
2017, section 2.2, https://arxiv.org/abs/1706.02677.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import maximum, where
from thalweg.rules.ranges import Interval, counts, finite, nonnegative
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.nesting import as_schedule, counted_from_here
from thalweg.schedules.state import State


@dataclass(frozen=True)
class WarmUp(Schedule):
    """η = a + (b − a)·t/n for t < n, then another schedule, which begins at b when the warm-up ends.

    Args:
        then: the schedule that follows, or a number. It counts from 0 where the warm-up ends, and it counts what the
            warm-up counts, whatever its own ``decay_on_iteration`` says (:class:`Chain` lets each count its own).
        duration: n, how many iterations or epochs the warm-up takes, a whole number.
        initial: a, in the unit of the hyperparameter it is for. Give this, ``fraction``, or neither (a = 0).
        fraction: a/b, 0 or more.
        decay_on_iteration: count iterations, which is the default here; ``False`` counts epochs.

    Raises:
        HyperparameterError: the duration is no positive whole number, both of ``initial`` and ``fraction`` are given,
            a value is not a finite number, or what follows is neither a schedule nor a number.

    Example:
        >>> from thalweg.schedules import Exp, WarmUp
        >>> WarmUp(Exp(4.0, gamma=0.5), duration=4).values(7)
        array([0., 1., 2., 3., 4., 2., 1.])

    Optax's ``warmup_cosine_decay_schedule`` and its relatives; in PyTorch ``LinearLR`` and another one in
    ``SequentialLR``.
    """

    kind: ClassVar[str] = "warm_up"
    ranges: ClassVar[dict[str, Interval]] = {"duration": counts, "initial": finite, "fraction": nonnegative}
    then: Schedule | float
    _: KW_ONLY
    duration: int
    initial: float | None = None
    fraction: float | None = None
    decay_on_iteration: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"schedule {self.kind}"
        if self.initial is not None and self.fraction is not None:
            raise HyperparameterError(f"{owner} has both initial and fraction; give one of them", owner=owner)
        object.__setattr__(self, "then", as_schedule(self.then, name="then", owner=owner))

    def __call__(self, state: State) -> float:
        """a + (b − a)·t/n, or what follows."""
        t = count(state, iterations=self.decay_on_iteration)
        target = cast(Schedule, self.then)(counted_from_here(state, maximum(t - self.duration, 0.0)))
        start = (self.fraction or 0.0) * target if self.initial is None else self.initial
        rising = (start * (self.duration - t) + target * t) / self.duration
        return plain(where(t < self.duration, rising, target))
