"""Hyperparameters as functions of how far the optimization has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.schedules.base import Schedule
from thalweg.schedules.building import build_schedule as _build_schedule
from thalweg.schedules.chaining import Chain
from thalweg.schedules.cosine import Cosine
from thalweg.schedules.cyclic import Cyclic
from thalweg.schedules.exponential import Exp
from thalweg.schedules.fixed import Fixed
from thalweg.schedules.inverse import Inv
from thalweg.schedules.joining import Join
from thalweg.schedules.one_cycle import OneCycle
from thalweg.schedules.piecewise import Piecewise
from thalweg.schedules.plateau import Plateau
from thalweg.schedules.polynomial import Polynomial
from thalweg.schedules.state import Counts, OptimizationState, State
from thalweg.schedules.step import Step
from thalweg.schedules.warm_up import WarmUp

__all__ = [
    "Chain",
    "Cosine",
    "Counts",
    "Cyclic",
    "Exp",
    "Fixed",
    "Inv",
    "Join",
    "OneCycle",
    "OptimizationState",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Schedule",
    "State",
    "Step",
    "WarmUp",
    "build",
    "registry",
]

registry: dict[str, type[Schedule]] = {
    cls.kind: cls
    for cls in (
        *(Fixed, Exp, Inv, Step, Piecewise, Polynomial, Cosine, OneCycle, Cyclic),
        *(WarmUp, Join, Chain, Plateau),
    )
}
"""The kinds of schedule by the name that study files and saved state use. Add your own before building."""


def build(table: Mapping[str, Any]) -> Schedule:
    """A schedule from its table, the inverse of ``get_config``.

    Args:
        table: for instance ``{"kind": "exp", "initial": 10.0, "gamma": 0.9}``; schedules inside it are tables, too.

    Returns:
        The schedule.

    Raises:
        HyperparameterError: an unknown kind or parameter (naming the nearest), a missing one, or a value out
            of range.

    Example:
        >>> from thalweg.schedules import build
        >>> build({"kind": "exp", "initial": 10.0, "gamma": 0.5})
        Exp(initial=10.0, gamma=0.5, decay_on_iteration=False)
    """
    return _build_schedule(table, registry)
