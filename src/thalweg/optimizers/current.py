"""A learning rate or a momentum by itself, at given counts: the number that was set, or what its schedule says then.

Of an optimizer's own it is ``optimizer.current("learning_rate")``, which gives an array where one was set. An array of
rates is none of a schedule's, and is refused here: it is what it is at all counts.
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.errors import HyperparameterError
from thalweg.optimizers.settings import asked
from thalweg.rules.ranges import Interval, fraction, nonnegative, number
from thalweg.schedules import OptimizationState


def get_learning_rate(scheduler: float | Callable[[OptimizationState], float], state: OptimizationState) -> float:
    """The current learning rate. ::

        η = scheduler(state)

    Args:
        scheduler: what an optimizer's ``learning_rate`` takes: a schedule, a function of the state, or a number.
        state: the counts of epochs, mini-batches and iterations. It is not changed.

    Returns:
        η ≥ 0: in units of the variable per unit of gradient, or of the variable where a rule divides by the gradient's
        size (Adam, say).

    Raises:
        HyperparameterError: it is none of these (an array, say), or its value is no number, negative or not finite; or
            the state is no ``OptimizationState``.

    Example:
        >>> import thalweg as tw
        >>> schedule = tw.schedules.Exp(8.0, gamma=0.5)  # t counts completed epochs
        >>> [tw.get_learning_rate(schedule, tw.OptimizationState(curr_epoch=epoch)) for epoch in (0, 1, 2, 3)]
        [8.0, 8.0, 4.0, 2.0]

    Source: the API page of MXNet.jl's optimizers, get_learning_rate.
    """
    return _at(scheduler, state, nonnegative, owner="get_learning_rate", name="learning_rate")


def get_momentum(scheduler: float | Callable[[OptimizationState], float], state: OptimizationState) -> float:
    """The current momentum. ::

        μ = scheduler(state)

    Args:
        scheduler: what ``tw.Momentum``'s ``momentum`` takes: a schedule, a function of the state, or a number, 0.0 for
            none.
        state: the counts of epochs, mini-batches and iterations. It is not changed.

    Returns:
        μ, in [0, 1), a pure number.

    Raises:
        HyperparameterError: it is none of these (an array, say), or its value is no number in [0, 1); or the state is
            no ``OptimizationState``.

    Example:
        >>> import thalweg as tw
        >>> rising = tw.schedules.Piecewise(0.5, boundaries=[2], levels=[0.9])
        >>> [tw.get_momentum(rising, tw.OptimizationState(curr_epoch=epoch)) for epoch in (1, 2, 3)]
        [0.5, 0.5, 0.9]

    Source: the API page of MXNet.jl's optimizers, get_momentum.
    """
    return _at(scheduler, state, fraction, owner="get_momentum", name="momentum")


def _at(
    scheduler: float | Callable[[OptimizationState], float],
    state: OptimizationState,
    interval: Interval,
    *,
    owner: str,
    name: str,
) -> float:
    if not isinstance(state, OptimizationState):
        raise HyperparameterError(f"{owner}: state is {state!r}; give an OptimizationState", name="state")
    if isinstance(scheduler, type):
        raise HyperparameterError(
            f"{owner}: the scheduler is the class {scheduler.__name__}; give one made of it, {scheduler.__name__}(...)",
            name="scheduler",
        )
    if not callable(scheduler):
        return number(scheduler, interval, name=name, owner=owner)
    try:
        return number(asked(scheduler, state, owner=owner, name=name), interval, name=name, owner=owner)
    except HyperparameterError as error:
        error.add_note(f"that is what the schedule {scheduler!r} gives at {state}")
        raise
