"""Schedules inside schedules: what may be one, and what it counts there.

A schedule inside :class:`Join` or :class:`WarmUp` follows the count of that schedule from the point where its turn
begins: both counts that it is shown are t − b, so its own ``decay_on_iteration`` no longer matters.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import HyperparameterError
from thalweg.schedules.base import Schedule
from thalweg.schedules.fixed import Fixed
from thalweg.schedules.lists import items
from thalweg.schedules.state import Counts, State


def as_schedule(value: Any, *, name: str, owner: str) -> Schedule:
    """A schedule; a number is a fixed one.

    Args:
        value: a schedule or a number.
        name: the parameter's name, for the message.
        owner: whose parameter it is, for the message.

    Returns:
        The schedule.

    Raises:
        HyperparameterError: it is neither.

    Example:
        >>> from thalweg.schedules.nesting import as_schedule
        >>> as_schedule(0.5, name="then", owner="schedule warm_up")
        Fixed(initial=0.5)
    """
    if isinstance(value, Schedule):
        return value
    try:
        return Fixed(value)
    except HyperparameterError as error:
        raise HyperparameterError(
            f"{owner}: {name} is {value!r}; give a schedule or a finite number (schedules.build makes one of a table)",
            owner=owner,
            name=name,
            value=value,
        ) from error


def as_schedules(values: Any, *, name: str, owner: str) -> tuple[Schedule, ...]:
    """A list of schedules; numbers in it are fixed ones.

    Args:
        values: the list, not empty.
        name: the parameter's name, for the message.
        owner: whose parameter it is, for the message.

    Returns:
        The schedules.

    Raises:
        HyperparameterError: it is no list, empty, or an item is neither schedule nor number.

    Example:
        >>> from thalweg.schedules.nesting import as_schedules
        >>> as_schedules([1.0, 0.5], name="factors", owner="schedule chain")
        (Fixed(initial=1.0), Fixed(initial=0.5))
    """
    found = items(values, name=name, owner=owner)
    return tuple(as_schedule(value, name=f"{name}[{i}]", owner=owner) for i, value in enumerate(found))


def counted_from_here(state: State, t: Any) -> Counts:
    """The state that a nested schedule is shown: t completed of whatever it counts.

    Args:
        state: that of the schedule around it.
        t: how much of its own turn is over.

    Returns:
        Counts whose ``completed_epochs`` and ``completed_iterations`` are t.

    Example:
        >>> from thalweg.schedules import OptimizationState
        >>> from thalweg.schedules.nesting import counted_from_here
        >>> counted_from_here(OptimizationState(batch_size=8, curr_epoch=9), 3.0)
        Counts(batch_size=8, curr_epoch=4, curr_batch=0, curr_iter=4)
    """
    begun = (int(t) if isinstance(t, float) else t) + 1
    return Counts(batch_size=state.batch_size, curr_epoch=begun, curr_batch=state.curr_batch, curr_iter=begun)
