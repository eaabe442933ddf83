"""Lists among a schedule's parameters: checked, and kept as tuples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import Interval, counts, number


def items(values: Any, *, name: str, owner: str) -> tuple[Any, ...]:
    """A list as a tuple.

    Args:
        values: a list, tuple, range or array of one dimension, not empty.
        name: the parameter's name, for the message.
        owner: whose parameter it is, for the message.

    Returns:
        Its items.

    Raises:
        HyperparameterError: it is no list, or empty.

    Example:
        >>> from thalweg.schedules.lists import items
        >>> items(range(1, 4), name="boundaries", owner="schedule join")
        (1, 2, 3)
    """
    listed = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if not listed and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise HyperparameterError(f"{owner}: {name} is {values!r}; give a list", owner=owner, name=name, value=values)
    if len(values) == 0:
        raise HyperparameterError(f"{owner}: {name} is empty; give one item at least", owner=owner, name=name)
    return tuple(values)


def reals(values: Any, interval: Interval, *, name: str, owner: str) -> tuple[float, ...]:
    """A list of real numbers, as floats.

    Args:
        values: the list, not empty.
        interval: where each must lie.
        name: the parameter's name, for the message.
        owner: whose parameter it is, for the message.

    Returns:
        The numbers.

    Raises:
        HyperparameterError: it is no list, empty, or an item is no number in the interval.

    Example:
        >>> from thalweg.rules.ranges import finite
        >>> from thalweg.schedules.lists import reals
        >>> reals([1, 0.5], finite, name="values", owner="schedule piecewise")
        (1.0, 0.5)
    """
    found = items(values, name=name, owner=owner)
    return tuple(number(value, interval, name=f"{name}[{i}]", owner=owner) for i, value in enumerate(found))


def increasing(values: Any, *, name: str, owner: str) -> tuple[int, ...]:
    """A list of counts, each larger than the one before it, the first 1 or more.

    Args:
        values: the list, not empty.
        name: the parameter's name, for the message.
        owner: whose parameter it is, for the message.

    Returns:
        The counts, as ints.

    Raises:
        HyperparameterError: it is no list, empty, an item is no count, or they do not increase.

    Example:
        >>> from thalweg.schedules.lists import increasing
        >>> increasing([30, 60], name="boundaries", owner="schedule piecewise")
        (30, 60)
    """
    found = tuple(int(value) for value in reals(values, counts, name=name, owner=owner))
    for before, after in pairwise(found):
        if after <= before:
            raise HyperparameterError(
                f"{owner}: {name} has {after} after {before}; give increasing counts",
                owner=owner,
                name=name,
                value=found,
            )
    return found
