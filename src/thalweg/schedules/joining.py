"""One schedule after another: η = sₖ(t − bₖ) for bₖ ≤ t < bₖ₊₁, with b₀ = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import maximum, minimum, where
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain
from thalweg.schedules.lists import increasing
from thalweg.schedules.nesting import as_schedules, counted_from_here
from thalweg.schedules.state import State


@dataclass(frozen=True)
class Join(Schedule):
    """η = sₖ(t − bₖ) for bₖ ≤ t < bₖ₊₁, t = completed epochs or iterations: each counts from 0 at its own start.

    Args:
        schedules: s, two or more, or numbers. Each counts what the join counts, whatever its own
            ``decay_on_iteration`` says, and is never asked for a count outside its turn.
        boundaries: b, when the next one begins, in epochs or iterations: one fewer than there are schedules, whole,
            positive and increasing.
        decay_on_iteration: count iterations instead of epochs.

    Raises:
        HyperparameterError: a list is empty, the boundaries are not one fewer, do not increase or are no positive
            whole numbers, or an item is neither a schedule nor a number.

    Example:
        >>> from thalweg.schedules import Exp, Join
        >>> Join([1.0, Exp(8.0, gamma=0.5)], boundaries=[2]).values(5)
        array([1., 1., 8., 4., 2.])

    Optax's ``join_schedules``; PyTorch's ``SequentialLR``.
    """

    kind: ClassVar[str] = "join"
    schedules: Sequence[Schedule | float]
    _: KW_ONLY
    boundaries: Sequence[int]
    decay_on_iteration: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"schedule {self.kind}"
        schedules = as_schedules(self.schedules, name="schedules", owner=owner)
        boundaries = increasing(self.boundaries, name="boundaries", owner=owner)
        if len(schedules) != len(boundaries) + 1:
            raise HyperparameterError(
                f"{owner} has {len(schedules)} schedules and {len(boundaries)} boundaries; give one boundary fewer "
                "than schedules, the count at which each but the first begins",
                owner=owner,
                name="boundaries",
                value=boundaries,
            )
        object.__setattr__(self, "schedules", schedules)
        object.__setattr__(self, "boundaries", boundaries)

    def __call__(self, state: State) -> float:
        """The value of the schedule whose turn it is."""
        t = count(state, iterations=self.decay_on_iteration)
        schedules = cast(tuple[Schedule, ...], self.schedules)
        value = 0.0 * t
        for schedule, begin, end in zip(schedules, (0, *self.boundaries), (*self.boundaries, None), strict=True):
            inside = maximum(t - begin, 0.0)
            if end is not None:
                inside = minimum(inside, end - begin - 1)
            value = where(t >= begin, schedule(counted_from_here(state, inside)), value)
        return plain(value)
