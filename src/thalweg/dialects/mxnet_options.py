"""The options of the optimizers on MXNet.jl's page: what an optimizer was made with, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mxnet_schedulers import (
    AbstractLearningRateScheduler,
    AbstractMomentumScheduler,
    checked,
    instance,
)
from thalweg.rules.ranges import finite, fraction, nonnegative, positive


@dataclass(frozen=True, kw_only=True)
class AbstractOptimizerOptions:
    """Base class for all optimizer options, with what :func:`normalized_gradient` needs.

    Args:
        grad_scale: a factor on gradients; ``None`` for 1 / ``state.batch_size``.
        grad_clip: if positive, clip the gradient into [−grad_clip, grad_clip], in the unit of the rescaled gradient.
        weight_decay: λ, as adding a global l2 regularizer to the parameters, in units of gradient per unit of weight.

    Raises:
        HyperparameterError: a number is out of its range.

    Example:
        >>> from thalweg.dialects.mxnet import AbstractOptimizerOptions
        >>> AbstractOptimizerOptions(grad_clip=1)
        AbstractOptimizerOptions(grad_scale=None, grad_clip=1.0, weight_decay=0.0)
    """

    _owner: ClassVar[str] = "AbstractOptimizerOptions"
    """Whose options they are, for messages."""

    grad_scale: float | None = None
    grad_clip: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        scale = {} if self.grad_scale is None else {"grad_scale": finite}
        checked(self, self._owner, grad_clip=nonnegative, weight_decay=nonnegative, **scale)


@dataclass(frozen=True, kw_only=True)
class SGDOptions(AbstractOptimizerOptions):
    """The options of SGD; its schedulers are those that hold."""

    _owner: ClassVar[str] = "SGD"

    lr_scheduler: AbstractLearningRateScheduler
    momentum_scheduler: AbstractMomentumScheduler

    def __post_init__(self) -> None:
        super().__post_init__()
        instance("lr_scheduler", self.lr_scheduler, AbstractLearningRateScheduler)
        instance("momentum_scheduler", self.momentum_scheduler, AbstractMomentumScheduler)


@dataclass(frozen=True, kw_only=True)
class ADAMOptions(AbstractOptimizerOptions):
    """The options of ADAM; its scheduler is the one that holds."""

    _owner: ClassVar[str] = "ADAM"

    lr_scheduler: AbstractLearningRateScheduler
    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        super().__post_init__()
        instance("lr_scheduler", self.lr_scheduler, AbstractLearningRateScheduler)
        checked(self, self._owner, beta1=fraction, beta2=fraction, epsilon=positive)
