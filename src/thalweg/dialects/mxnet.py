"""The names of MXNet.jl's page on optimizers, on Thalweg's engine and NumPy arrays.

The formulas and defaults are the page's, and so are the counts: t of a schedule is ``state.curr_epoch`` or
``state.curr_iter`` as the training loop has set it, so that during epoch 1 the rate is η₀·γ¹ already. An updater never
counts. (Thalweg's own ``get_updater`` counts iterations itself, and its schedules count what is completed.)

What differs from the page's library: ADAM follows its schedule at every step, a gradient is never changed, what is not
finite is refused and not clipped, a number out of its range is refused, and an updater's state can be saved.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Hashable
from dataclasses import fields
from typing import Any

import numpy as np

from thalweg.dialects.mxnet_options import AbstractOptimizerOptions, ADAMOptions, SGDOptions
from thalweg.dialects.mxnet_schedulers import (
    AbstractLearningRateScheduler,
    AbstractMomentumScheduler,
    LearningRate,
    Momentum,
    get_learning_rate,
    get_momentum,
    instance,
)
from thalweg.errors import HyperparameterError
from thalweg.optimizers import named
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.meaning import meant
from thalweg.optimizers.normalizing import normalized_gradient
from thalweg.optimizers.settings import same
from thalweg.optimizers.updater import Updater
from thalweg.schedules import OptimizationState

__all__ = [
    "ADAM",
    "SGD",
    "AbstractLearningRateScheduler",
    "AbstractMomentumScheduler",
    "AbstractOptimizer",
    "AbstractOptimizerOptions",
    "LearningRate",
    "Momentum",
    "OptimizationState",
    "get_learning_rate",
    "get_momentum",
    "get_updater",
    "normalized_gradient",
]


def _form(recipe: LocalOptimizer) -> tuple[Any, ...]:
    """What cannot change once there is state."""
    return recipe.rule.name, recipe.rule.slot_names, tuple(recipe.rule.chosen.items())


_HOOKS = ("process_grad", "process_model")
_NATIVELY = {"lr": "learning_rate", "momentum": "momentum"}
"""What the page's scheduled numbers are called natively."""


class AbstractOptimizer(abc.ABC):
    """Base type for all optimizers. One of your own says which of Thalweg's does its arithmetic.

    Args:
        opts: its options.

    Raises:
        HyperparameterError: an option is set on the optimizer later, where it would change nothing; or ``opts`` to
            options of another kind, or, once there is an updater, to some that need another state (a momentum comes or
            goes).

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> from thalweg.dialects.mxnet import AbstractOptimizer, AbstractOptimizerOptions, get_updater
        >>> class AdaGrad(AbstractOptimizer):
        ...     def recipe(self):
        ...         return tw.AdaGrad(convention="mxnet", weight_decay=0.0)
        ...     def current(self):
        ...         return {"learning_rate": 0.5**self.state.curr_epoch}
        >>> w = np.array([1.0])
        >>> get_updater(AdaGrad(AbstractOptimizerOptions(weight_decay=1e-5)))(1, np.array([2.0]), w)
        >>> w.round(3)
        array([0.])
    """

    _followed: tuple[Any, ...] | None = None
    """What the recipe is that an updater was made of, if one was."""

    def __init__(self, opts: AbstractOptimizerOptions) -> None:
        self._state = OptimizationState()
        self.opts = opts

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse options that do not fit, and what an option is called, where setting it would change nothing."""
        opts = vars(self).get("opts")
        if name == "opts":
            self._refuse_options(value, AbstractOptimizerOptions if opts is None else type(opts))
        elif opts is not None and not hasattr(type(self), name):
            self._refuse_attribute(name)
        super().__setattr__(name, value)

    def _refuse_attribute(self, name: str) -> None:
        """Refuse what nobody would read here; all else is a mark of the user's own."""
        options = [field.name for field in fields(self.opts)]
        numbers = [option.removesuffix("_scheduler") for option in options if option.endswith("_scheduler")]
        known = meant(name, [*options, *numbers, *(_NATIVELY.get(number, number) for number in numbers), *_HOOKS])
        if known in _HOOKS:
            raise HyperparameterError(
                f"{type(self).__name__}: this page knows no {known}; change the gradient before update, and the weight "
                "after it, or take thalweg.get_updater(...)",
                name=name,
            )
        if known is not None:
            raise HyperparameterError(
                f"{type(self).__name__}: {name} cannot be set on the optimizer, where it would change nothing. Give a "
                "scheduler that changes when you make it, or set .opts to other options.",
                name=name,
            )

    def _refuse_options(self, value: Any, kind: type) -> None:
        """Refuse options of another kind, and such as the state of an updater's keys is not for."""
        instance("opts", value, kind)
        if self._followed is None:
            return
        other = copy.copy(self)
        vars(other)["opts"] = value
        found = _form(other.recipe())
        if found != self._followed:
            raise HyperparameterError(
                f"{type(self).__name__}: with these options it is {found[0]}, and an updater was made of it as "
                f"{self._followed[0]}, with a state for that. Make another optimizer and updater, or give a scheduler "
                "of your own from the beginning, which may be 0 for a while",
                name="opts",
            )

    def _follow(self) -> LocalOptimizer:
        """The recipe for an updater, which follows the options from now on."""
        recipe = self.recipe()
        self._followed = _form(recipe)
        return recipe

    def __repr__(self) -> str:
        values = {field.name: getattr(self.opts, field.name) for field in fields(self.opts)}
        said = (f"{name}={value!r}" for name, value in values.items() if value is not None)
        return f"{type(self).__name__}({', '.join(said)})"

    @property
    def state(self) -> OptimizationState:
        """The counts, which the training loop sets, also as a state of its own; at first for batches of 1."""
        return self._state

    @state.setter
    def state(self, value: OptimizationState) -> None:
        instance("state", value, OptimizationState)
        self._state = value

    @abc.abstractmethod
    def recipe(self) -> LocalOptimizer:
        """Thalweg's optimizer that makes the step of a normalized gradient, without variables."""

    @abc.abstractmethod
    def current(self) -> dict[str, float]:
        """Its hyperparameters at the present counts, by Thalweg's names."""


class SGD(AbstractOptimizer):
    """Stochastic gradient descent optimizer. ::

        m' = μ·m − η·g,   w' = w + m'        with g of :func:`normalized_gradient`; no m where μ is 0

    Args:
        lr: learning rate, in units of weight per unit of gradient.
        lr_scheduler: a dynamic learning rate scheduler. If set, will overwrite the ``lr`` parameter.
        momentum: the momentum, in [0, 1).
        momentum_scheduler: a dynamic momentum scheduler. If set, will overwrite the ``momentum`` parameter.
        grad_clip: if positive, will clip the gradient into the bounded range [−grad_clip, grad_clip].
        weight_decay: weight decay is equivalent to adding a global l2 regularizer to the parameters.

    Raises:
        HyperparameterError: a number is out of its range, or a scheduler is none.

    Example:
        >>> import numpy as np
        >>> from thalweg.dialects.mxnet import SGD, get_updater
        >>> descend = get_updater(SGD(lr=10, weight_decay=0))
        >>> w = np.array([1.0, 2.0, 3.0, 4.0])
        >>> descend(1, np.array([0.1, 0.2, 0.3, 0.4]), w)
        >>> bool(np.abs(w).max() < 1e-15)
        True

    Source: the API page of MXNet.jl's optimizers, class SGD.
    """

    def __init__(
        self,
        *,
        lr: float = 0.01,
        lr_scheduler: AbstractLearningRateScheduler | None = None,
        momentum: float = 0.0,
        momentum_scheduler: AbstractMomentumScheduler | None = None,
        grad_clip: float = 0,
        weight_decay: float = 0.0001,
    ) -> None:
        super().__init__(
            SGDOptions(
                lr_scheduler=LearningRate.Fixed(lr) if lr_scheduler is None else lr_scheduler,
                momentum_scheduler=Momentum.Fixed(momentum) if momentum_scheduler is None else momentum_scheduler,
                grad_clip=grad_clip,
                weight_decay=weight_decay,
            )
        )

    opts: SGDOptions

    def _has_momentum(self) -> bool:
        return self.opts.momentum_scheduler not in (Momentum.Null(), Momentum.Fixed(0.0))

    def recipe(self) -> LocalOptimizer:
        """Momentum, or without any plain descent."""
        cls = named.Momentum if self._has_momentum() else named.SGD
        return cls(convention="mxnet", weight_decay=0.0)

    def current(self) -> dict[str, float]:
        """Rate and momentum."""
        now = {"learning_rate": get_learning_rate(self.opts.lr_scheduler, self.state)}
        if self._has_momentum():
            now["momentum"] = get_momentum(self.opts.momentum_scheduler, self.state)
        return now


class ADAM(AbstractOptimizer):
    """The solver described in Diederik Kingma, Jimmy Ba: Adam. ::

        m' = β₁·m + (1 − β₁)·g,   v' = β₂·v + (1 − β₂)·g²        with g of :func:`normalized_gradient`
        w' = w − η·m̂ / (√v̂ + ε),  m̂ = m' / (1 − β₁ᵗ),  v̂ = v' / (1 − β₂ᵗ)

    Args:
        lr: learning rate, roughly the step's size in the weight's unit.
        lr_scheduler: a dynamic learning rate scheduler. If set, will overwrite the ``lr`` parameter.
        beta1: in [0, 1).
        beta2: in [0, 1).
        epsilon: in the gradient's unit, positive.
        grad_clip: if positive, will clip the gradient into the range [−grad_clip, grad_clip].
        weight_decay: weight decay is equivalent to adding a global l2 regularizer for all the parameters.

    Raises:
        HyperparameterError: a number is out of its range, or the scheduler is none.

    Example:
        >>> import numpy as np
        >>> from thalweg.dialects.mxnet import ADAM, LearningRate, get_updater
        >>> adam = ADAM(lr_scheduler=LearningRate.Exp(0.5), weight_decay=0)
        >>> adam.state.curr_epoch = 1
        >>> w = np.array([1.0])
        >>> get_updater(adam)("w", np.array([3.0]), w)
        >>> w.round(6)
        array([0.55])

    Source: the API page of MXNet.jl's optimizers, class ADAM; arXiv:1412.6980.
    """

    def __init__(
        self,
        *,
        lr: float = 0.001,
        lr_scheduler: AbstractLearningRateScheduler | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        grad_clip: float = 0,
        weight_decay: float = 0.00001,
    ) -> None:
        super().__init__(
            ADAMOptions(
                lr_scheduler=LearningRate.Fixed(lr) if lr_scheduler is None else lr_scheduler,
                beta1=beta1,
                beta2=beta2,
                epsilon=epsilon,
                grad_clip=grad_clip,
                weight_decay=weight_decay,
            )
        )

    opts: ADAMOptions

    def recipe(self) -> LocalOptimizer:
        """Adam, without the decay, which is in the gradient already."""
        return named.Adam(convention="mxnet", weight_decay=0.0)

    def current(self) -> dict[str, float]:
        """The rate, and what never changes."""
        rate = get_learning_rate(self.opts.lr_scheduler, self.state)
        opts = self.opts
        return {"learning_rate": rate, "beta1": opts.beta1, "beta2": opts.beta2, "epsilon": opts.epsilon}


class _Updater(Updater):
    """An updater that follows the page's optimizer and its counts."""

    def __init__(self, optimizer: AbstractOptimizer) -> None:
        super().__init__(optimizer._follow())
        self._page = optimizer

    @property
    def optimizer(self) -> Any:
        """The page's optimizer, whose options and counts it follows."""
        return self._page

    def _refuse_attribute(self, name: str, value: Any) -> None:
        """What the page's optimizer has its word on is said there; its options are where it is set."""
        if name == "optimizer":
            raise HyperparameterError(
                "an updater's optimizer stays as it was given; set its opts to other options (update.optimizer.opts = "
                "...), or make another updater: get_updater(...)",
                name=name,
            )
        known = meant(name, [*_HOOKS, *self._recipe.rule.hyperparameters, *vars(self._page.opts)])
        if known is not None:
            raise HyperparameterError(
                f"an updater has no {name}, which nobody would read: it follows its optimizer's options and counts. "
                "Set update.optimizer.opts to other options, or give the optimizer a scheduler that changes",
                name=name,
            )
        super()._refuse_attribute(name, value)

    @property
    def optimization_state(self) -> OptimizationState:
        """The state of the page's optimizer."""
        return self._page.state

    def __call__(self, key: Hashable, grad: np.ndarray, weight: np.ndarray) -> None:
        """Normalize the gradient, and update the weight in place."""
        name, seat = self._seat(key, weight)
        ready = normalized_gradient(self._page.opts, self._page.state, weight, grad)
        for hyperparameter, value in self._page.current().items():
            if not same(getattr(seat.optimizer, hyperparameter), value):
                setattr(seat.optimizer, hyperparameter, value)
        seat.step(processed_grad=ready)
        self._keep(key, name, seat)


def get_updater(optimizer: AbstractOptimizer) -> Updater:
    """A utility function to create an updater function that stores all the states needed for each weight.

    Args:
        optimizer: the underlying optimizer.

    Returns:
        ``update(key, grad, weight)``, which changes the weight in place and nothing else: not the gradient, and not the
        counts. A key's state is made when the key first comes. ``dump`` and ``load`` save states and counts.

    Raises:
        HyperparameterError: it is no optimizer of this page.

    Example:
        >>> import numpy as np
        >>> from thalweg.dialects.mxnet import SGD, OptimizationState, get_updater
        >>> sgd = SGD(lr=1, momentum=0.5, weight_decay=0)
        >>> sgd.state = OptimizationState(batch_size=4)
        >>> update, w = get_updater(sgd), np.array([0.0])
        >>> for _ in range(2):
        ...     update(1, np.array([-4.0]), w)
        >>> w
        array([2.5])

    Source: the API page of MXNet.jl's optimizers, get_updater.
    """
    instance("optimizer", optimizer, AbstractOptimizer)
    return _Updater(optimizer)
