"""Coupled weight decay: a gradient as if the loss had ½·w·‖θ‖² added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import nonnegative, number
from thalweg.transforms.arrays import checked_weights, constant, floating, no_infinity, parameter_for, quiet, weighted
from thalweg.transforms.base import Array, ParameterTransform


@dataclass(frozen=True, eq=False)
class add_decay(ParameterTransform):
    """g' = g + w·m·θ, m an elementwise mask.

    The decay goes through the rule as the gradient does: an adaptive rule divides it by the size of past
    gradients. Decay that does not is the rule's own (decoupled, as in AdamW). Where the mask is 0 the gradient
    is as it was, whatever the parameter is there.

    Args:
        weight: w, in the unit of gradient over parameter, not negative.
        array: the mask m, of the parameter's shape: booleans, or finite numbers; ``None`` for 1 everywhere.
            Copied.

    Raises:
        HyperparameterError: the weight is negative or not finite, the mask is not numbers or not finite, or (when
            called) gradient, parameter and mask do not fit each other, or the weight is infinite in their dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import add_decay
        >>> add_decay(0.5, np.array([True, False]))(np.array([1.0, 1.0]), np.array([4.0, 4.0]))
        array([3., 1.])

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2, line 6.
    """

    kind: ClassVar[str] = "add_decay"
    array_parameters: ClassVar[tuple[str, ...]] = ("array",)
    weight: float
    array: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", number(self.weight, nonnegative, name="weight", owner=self.kind))
        if self.array is not None:
            object.__setattr__(self, "array", checked_weights(self.array, self.kind))

    def __call__(self, grad: Array, param: Array) -> Array:
        """The gradient with the decay added."""
        given = floating(grad, self.kind)
        no_infinity(self.weight, given, name="weight", owner=self.kind)
        theta = parameter_for(given, param, self.kind)
        theta = theta if self.array is None else weighted(theta, self.array, self.kind)
        with quiet():
            return namespace(given).cast(given + constant(self.weight, given) * theta, given)
