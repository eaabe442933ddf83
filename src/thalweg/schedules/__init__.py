"""Hyperparameters as functions of how far the optimization has come."""

from __future__ import annotations

from typing import Any

from thalweg.schedules.base import Schedule
from thalweg.schedules.base import build_schedule as _build_schedule
from thalweg.schedules.exponential import Exp
from thalweg.schedules.fixed import Fixed
from thalweg.schedules.inverse import Inv
from thalweg.schedules.state import OptimizationState

__all__ = ["Exp", "Fixed", "Inv", "OptimizationState", "Schedule", "build", "registry"]

registry: dict[str, type[Schedule]] = {cls.kind: cls for cls in (Fixed, Exp, Inv)}
"""The kinds of schedule by the name that study files and saved state use. Add your own before building."""


def build(table: dict[str, Any]) -> Schedule:
    """A schedule from its table, the inverse of ``get_config``.

    Args:
        table: for instance ``{"kind": "exp", "initial": 10.0, "gamma": 0.9}``.

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
