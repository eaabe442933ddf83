"""Warnings that a step gives, each once per optimizer, at the user's own line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping

from thalweg.optimizers.settings import Scheduled
from thalweg.rules.base import Rule
from thalweg.schedules import OptimizationState, Schedule

_NOT_THE_USERS = ("thalweg", "torch", "asyncio")


def tell_standing(
    rule: Rule, tables: Iterable[Mapping[str, Scheduled]], state: OptimizationState, told: set[str]
) -> None:
    """Say in a step, but for the first, that a schedule of epochs does not move as long as nobody counts them.

    Args:
        rule: whose hyperparameters they are.
        tables: the hyperparameters of the step, one table for each group.
        state: the counts before the step.
        told: what this optimizer has told already; once is enough.
    """
    if not state.curr_iter or state.curr_epoch or "standing" in told:
        return
    schedules = ((name, value) for table in tables for name, value in table.items() if isinstance(value, Schedule))
    for name, schedule in schedules:
        part = schedule._standing()
        if part is not None:
            told.add("standing")
            warnings.warn(
                f"{rule.name}: the schedule {part!r} of {name} counts epochs, and none has begun: it stands still. "
                "Call optimizer.optimization_state.begin_epoch() before each epoch, the first, too, or have it count "
                "steps with decay_on_iteration=True",
                stacklevel=level_of_user(),
            )
            return


def level_of_user() -> int:
    """Where a warning of our caller has to point: the nearest line that is the user's.

    PyTorch, its schedulers and its scaler of gradients put functions of their own around ``step``; an event loop runs
    a step that is not awaited where it was made.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        level, frame = level + 1, frame.f_back
    return level
