"""Schedules that are told a metric, on JAX: their numbers and what they remember are in the state, as arrays. ::

    state = optimizer.observe(state, loss)

A compiled step reads the number; what is remembered only passes through it, bit by bit, so that it stays in double
precision also where JAX has none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thalweg.lowering.jax import number
from thalweg.optimizers.settings import Scheduled, place_name, told
from thalweg.schedules import OptimizationState, Plateau

Remembered = tuple[dict[str, jax.Array], ...]
"""For each group what its schedules remember, by hyperparameter: uint32, shape (6,). Empty if there are none."""


def remembered(settings: Sequence[Mapping[str, Scheduled]], saved: Mapping[str, Any] | None = None) -> Remembered:
    """What the schedules remember that are told a metric.

    Args:
        settings: for each group its hyperparameters.
        saved: from :func:`states`, in place of what the schedules themselves remember.

    Returns:
        A pytree of arrays.
    """
    found = tuple(
        {
            name: _packed(value.state() if saved is None else saved[place_name(group, name)])
            for name, value in table.items()
            if isinstance(value, Plateau)
        }
        for group, table in enumerate(settings)
    )
    return found if any(found) else ()


def tell(
    settings: Sequence[Mapping[str, Scheduled]], known: Remembered, call: Callable[[Plateau], None]
) -> tuple[Remembered, list[dict[str, Any]]]:
    """Tell each of them a metric, or to forget the best one.

    Args:
        settings: for each group its hyperparameters.
        known: what the schedules remember, not traced.
        call: what is told to a copy of each, which remembers that.

    Returns:
        What they remember then, and for each group their numbers by name, as a step computes with them.

    Raises:
        HyperparameterError: the metric is no real number.
    """
    after, numbers = [], []
    for table, row in zip(settings, known, strict=True):
        schedules = {name: _with(table[name], bits) for name, bits in row.items()}
        for schedule in schedules.values():
            call(schedule)
        after.append({name: _packed(schedule.state()) for name, schedule in schedules.items()})
        numbers.append({name: number(schedule(OptimizationState())) for name, schedule in schedules.items()})
    return tuple(after), numbers


def states(known: Remembered) -> dict[str, Any]:
    """What the schedules remember as snapshots have it, by where they are.

    Args:
        known: not traced.
    """
    return {place_name(group, name): _unpacked(bits) for group, row in enumerate(known) for name, bits in row.items()}


def numbers(table: Mapping[str, Scheduled], saved: Mapping[str, Any], group: int) -> dict[str, Any]:
    """The numbers of a group's schedules that are told a metric, where they remember what was saved."""
    found = {}
    for name, value in table.items():
        if told(value):
            schedule = copy.deepcopy(value)
            schedule.restore(saved[place_name(group, name)])  # type: ignore[union-attr]  # it is a Plateau
            found[name] = number(schedule(OptimizationState()))  # type: ignore[operator]
    return found


def _with(schedule: Any, bits: jax.Array) -> Plateau:
    made: Plateau = copy.deepcopy(schedule)
    made.restore(_unpacked(bits))
    return made


def _packed(state: Mapping[str, Any]) -> jax.Array:
    best = np.nan if state["best"] is None else state["best"]  # which is never NaN itself
    reals = np.array([best, state["factor"]], np.float64).view(np.uint32)
    counts = np.array([state["bad_count"], state["cooldown_count"]], np.uint32)
    return jnp.asarray(np.concatenate([reals, counts]))


def _unpacked(bits: jax.Array) -> dict[str, Any]:
    array = np.asarray(bits)
    best, factor = array[:4].copy().view(np.float64).tolist()
    bad, cooling = array[4:].tolist()
    return {
        "best": None if np.isnan(best) else best,
        "bad_count": bad,
        "cooldown_count": cooling,
        "factor": factor,
    }
