"""What a problem's feedback and metrics must be, before and after a step; said in words that name the problem's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.runs.batches import FAILED_ITEMS
from thalweg.runs.built import kind_of
from thalweg.runs.problem import Feedback, Problem
from thalweg.runs.selection import Batch
from thalweg.runs.tables import COLUMNS
from thalweg.runs.telling import several


async def awaited(problem: Problem, batch: Batch, runtime: Any) -> Feedback:
    """The problem's feedback on a batch.

    Raises:
        RunError: it is none.
    """
    answer: Any = problem.feedback(batch.items, runtime)
    name = f"{type(problem).__qualname__}.feedback"
    if not inspect.isawaitable(answer):
        raise RunError(
            f"{name} returned {kind_of(answer)} instead of a coroutine. Write it as `async def feedback(...)`, and "
            "have it return a thalweg.runs.Feedback."
        )
    feedback = await answer
    if not isinstance(feedback, Feedback):
        raise RunError(
            f"{name} returned {kind_of(feedback)} instead of a thalweg.runs.Feedback. End it with "
            "`return Feedback(loss, {name of the variable: gradient, ...})`."
        )
    return feedback


def check_feedback(
    feedback: Feedback, batch: Batch, problem: Problem, *, where: Callable[[], str], iteration: int
) -> None:
    """Refuse feedback that cannot be used, before anything is changed.

    Args:
        feedback: what came.
        batch: what it is about.
        problem: where it came from.
        where: says the iteration and block, for the message.
        iteration: the last that was committed.

    Raises:
        RunError: the loss or a metric is not finite, or the gradients are not those of the variables.
    """
    if not is_finite(feedback.loss) and not _is_number(feedback.loss):
        raise RunError(
            f"{where()}: the loss is {kind_of(feedback.loss)}, no number; nothing was changed. Give the number itself: "
            "Feedback(float(loss), ...), of a Variable float(loss.data)."
        )
    if not is_finite(feedback.loss):
        raise RunError(
            f"{where()}: the loss of {len(batch.items)} {several(problem.item_name)} is {feedback.loss!r}, "
            "which is no finite number. Nothing was changed: the variables are as after iteration "
            f"{iteration}. Usually the step before was too long (make the learning rate "
            "smaller), or the data is not finite.",
            iteration=iteration + 1,
            loss=feedback.loss,
        )
    names = {str(variable.name) for variable in problem.variables}
    if feedback.rewards is None and feedback.gradients.keys() != names:
        raise RunError(
            f"{where()}: the feedback has gradients of {sorted(feedback.gradients)}, and the variables are "
            f"{sorted(names)}. The problem must return one gradient for each of its variables, by name."
        )
    for name, gradient in feedback.gradients.items():
        if gradient is None:
            raise RunError(
                f"{where()}: the gradient of {name!r} is None; nothing was changed. If the loss does not depend on it, "
                "its gradient is zeros of its shape."
            )
    faults = [name for name, value in feedback.metrics.items() if not is_finite(value)]
    check_metrics(feedback.metrics, faults, feedback.metrics, where=where, when="before")


def check_metrics(
    metrics: Mapping[str, float], faults: list[str], theirs: Iterable[str], *, where: Callable[[], str], when: str
) -> None:
    """Refuse metrics that cannot be recorded.

    Args:
        metrics: numbers by name.
        faults: the names of those that are not finite.
        theirs: the names that the problem has chosen.
        where: says the iteration and block, for the message.
        when: ``"before"`` the step or ``"after"`` it.

    Raises:
        RunError: there are some.
    """
    odd = [name for name in theirs if not isinstance(name, str)]
    if odd:
        raise RunError(f"The problem's metrics have {odd[0]!r}, which is no name: name them with text.")
    reserved = sorted((COLUMNS.keys() | {FAILED_ITEMS}) & set(theirs))
    if reserved:
        raise RunError(f"The problem's metrics {reserved} have names that the history uses itself; rename them.")
    if faults:
        values = ", ".join(f"{name} = {metrics[name]!r}" for name in faults)
        raise RunError(
            f"{where()}: {values} (a metric, {when} the step) is no "
            "finite number. The run stops here, since what follows would mean nothing.",
            metrics={name: metrics[name] for name in faults},
        )


def named_numbers(metrics: Any, problem: Problem) -> Mapping[str, float]:
    """What the problem's ``metrics`` returned.

    Raises:
        RunError: it is no table of numbers by name.
    """
    if not isinstance(metrics, Mapping):
        raise RunError(
            f"{type(problem).__qualname__}.metrics returned {kind_of(metrics)} instead of a dictionary of numbers by "
            "name; end it with `return {...}`, which may be empty."
        )
    return metrics


def _is_number(value: Any) -> bool:
    """Whether it is one number, finite or not; text is none, whatever it says."""
    try:
        return not isinstance(value, (str, bytes)) and np.ndim(value) == 0 and isinstance(float(value), float)
    except (TypeError, ValueError, OverflowError):
        return False


def is_finite(value: Any) -> bool:
    """Whether it is a finite number."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
