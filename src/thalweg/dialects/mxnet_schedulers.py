"""The learning rate and momentum schedulers of MXNet.jl's page: see :mod:`thalweg.dialects.mxnet`, which has them all.

t is the count as the loop has set it, where Thalweg's own schedules (of :func:`thalweg.get_learning_rate` and
:func:`thalweg.get_momentum`) count what is completed. ::

    Exp    η_t = η₀·γᵗ
    Inv    η_t = η₀·(1 + γ·t)^(−power)
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, fields
from typing import Any

from thalweg import schedules
from thalweg.errors import HyperparameterError
from thalweg.rules.ranges import Interval, fraction, nonnegative, number, open_fraction
from thalweg.schedules import Counts, OptimizationState


def checked(options: Any, owner: str, **intervals: Interval) -> None:
    """Let the numbers of a frozen dataclass be floats in their ranges, and its switches booleans.

    Args:
        options: the instance, just made.
        owner: whose numbers they are, for messages.
        intervals: where each must lie.

    Raises:
        HyperparameterError: a number is not in its range, or a switch is no boolean.
    """
    for name, interval in intervals.items():
        value = number(getattr(options, name), interval, name=name, owner=owner)
        object.__setattr__(options, name, value)
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(field.default, bool) and not isinstance(value, bool):
            raise HyperparameterError(f"{owner}: {field.name} is {value!r}; give True or False", name=field.name)


def instance(what: str, value: Any, kind: type) -> None:
    """Refuse what is no instance of a type of the page.

    Raises:
        HyperparameterError: it is none.
    """
    if not isinstance(value, kind):
        raise HyperparameterError(f"{what} is {value!r}; give an instance of {kind.__name__}", name=what, value=value)


class AbstractLearningRateScheduler(abc.ABC):
    """Base type for all learning rate schedulers. One of your own has this one method.

    Example:
        >>> from thalweg.dialects.mxnet import AbstractLearningRateScheduler, OptimizationState, get_learning_rate
        >>> class Halving(AbstractLearningRateScheduler):
        ...     def get_learning_rate(self, state):
        ...         return 0.5**state.curr_epoch
        >>> get_learning_rate(Halving(), OptimizationState(batch_size=1, curr_epoch=2))
        0.25
    """

    @abc.abstractmethod
    def get_learning_rate(self, state: OptimizationState) -> float:
        """The learning rate at these counts."""


class AbstractMomentumScheduler(abc.ABC):
    """Base type for all momentum schedulers. One of your own has this one method.

    Example:
        >>> from thalweg.dialects.mxnet import AbstractMomentumScheduler, OptimizationState, get_momentum
        >>> class Rising(AbstractMomentumScheduler):
        ...     def get_momentum(self, state):
        ...         return 1.0 - 0.5 ** (1 + state.curr_epoch)
        >>> get_momentum(Rising(), OptimizationState(batch_size=1, curr_epoch=1))
        0.75
    """

    @abc.abstractmethod
    def get_momentum(self, state: OptimizationState) -> float:
        """The momentum at these counts."""


def _seen(state: OptimizationState) -> Counts:
    """The counts for one of Thalweg's own schedules, which count what is completed: t = count, not count − 1."""
    return Counts(state.batch_size, state.curr_epoch + 1, state.curr_batch, state.curr_iter + 1)


class LearningRate:
    """The learning rate schedulers of the page.

    Example:
        >>> from thalweg.dialects.mxnet import LearningRate, OptimizationState, get_learning_rate
        >>> state = OptimizationState(batch_size=32, curr_epoch=1, curr_iter=3)
        >>> get_learning_rate(LearningRate.Exp(1.0), state)
        0.9
        >>> get_learning_rate(LearningRate.Inv(1.0, gamma=0.5, power=1, decay_on_iteration=True), state)
        0.4
    """

    @dataclass(frozen=True)
    class Fixed(AbstractLearningRateScheduler):
        """Always the same learning rate.

        Args:
            lr: η₀, not negative.
        """

        lr: float

        def __post_init__(self) -> None:
            checked(self, "LearningRate.Fixed", lr=nonnegative)

        def get_learning_rate(self, state: OptimizationState) -> float:
            """η₀."""
            return self.lr

    @dataclass(frozen=True)
    class Exp(AbstractLearningRateScheduler):
        """η_t = η₀·γᵗ, t the epoch count, or the iteration count.

        Args:
            lr: η₀, not negative.
            gamma: γ, between 0 and 1.
            decay_on_iteration: count iterations.
        """

        lr: float
        gamma: float = 0.9
        decay_on_iteration: bool = False

        def __post_init__(self) -> None:
            checked(self, "LearningRate.Exp", lr=nonnegative, gamma=open_fraction)

        def get_learning_rate(self, state: OptimizationState) -> float:
            """η₀·γᵗ."""
            own = schedules.Exp(self.lr, gamma=self.gamma, decay_on_iteration=self.decay_on_iteration)
            return own(_seen(state))

    @dataclass(frozen=True)
    class Inv(AbstractLearningRateScheduler):
        """η_t = η₀·(1 + γ·t)^(−power), t the epoch count, or the iteration count.

        Args:
            lr: η₀, not negative.
            gamma: γ, between 0 and 1.
            power: 0 or more.
            decay_on_iteration: count iterations.
        """

        lr: float
        gamma: float = 0.9
        power: float = 0.5
        decay_on_iteration: bool = False

        def __post_init__(self) -> None:
            checked(self, "LearningRate.Inv", lr=nonnegative, gamma=open_fraction, power=nonnegative)

        def get_learning_rate(self, state: OptimizationState) -> float:
            """η₀·(1 + γ·t)^(−power)."""
            count = self.decay_on_iteration
            return schedules.Inv(self.lr, gamma=self.gamma, power=self.power, decay_on_iteration=count)(_seen(state))


class Momentum:
    """The momentum schedulers of the page.

    Example:
        >>> from thalweg.dialects.mxnet import Momentum, OptimizationState, get_momentum
        >>> state = OptimizationState(batch_size=32)
        >>> get_momentum(Momentum.Null(), state), get_momentum(Momentum.Fixed(0.9), state)
        (0.0, 0.9)
    """

    @dataclass(frozen=True)
    class Null(AbstractMomentumScheduler):
        """Always 0: momentum is not to be used, and takes no memory."""

        def get_momentum(self, state: OptimizationState) -> float:
            """0."""
            return 0.0

    @dataclass(frozen=True)
    class Fixed(AbstractMomentumScheduler):
        """Always the same momentum.

        Args:
            momentum: μ, in [0, 1).
        """

        momentum: float

        def __post_init__(self) -> None:
            checked(self, "Momentum.Fixed", momentum=fraction)

        def get_momentum(self, state: OptimizationState) -> float:
            """μ."""
            return self.momentum


def get_learning_rate(scheduler: AbstractLearningRateScheduler, state: OptimizationState) -> float:
    """The current learning rate.

    Args:
        scheduler: a learning rate scheduler.
        state: the current state about epoch, mini-batch and iteration count.

    Returns:
        The rate, in units of weight per unit of gradient (SGD) or of weight (ADAM).

    Raises:
        HyperparameterError: it is no such scheduler, or its value is negative or not finite.

    Example:
        >>> from thalweg.dialects.mxnet import LearningRate, OptimizationState, get_learning_rate
        >>> get_learning_rate(LearningRate.Fixed(0.1), OptimizationState(batch_size=1))
        0.1
    """
    instance("lr_scheduler", scheduler, AbstractLearningRateScheduler)
    return number(scheduler.get_learning_rate(state), nonnegative, name="learning rate", owner=repr(scheduler))


def get_momentum(scheduler: AbstractMomentumScheduler, state: OptimizationState) -> float:
    """The current momentum.

    Args:
        scheduler: the momentum scheduler.
        state: the state about current epoch, mini-batch and iteration count.

    Returns:
        The momentum, in [0, 1).

    Raises:
        HyperparameterError: it is no such scheduler, or its value is out of its range.

    Example:
        >>> from thalweg.dialects.mxnet import Momentum, OptimizationState, get_momentum
        >>> get_momentum(Momentum.Fixed(0.5), OptimizationState(batch_size=1))
        0.5
    """
    instance("momentum_scheduler", scheduler, AbstractMomentumScheduler)
    return number(scheduler.get_momentum(state), fraction, name="momentum", owner=repr(scheduler))
