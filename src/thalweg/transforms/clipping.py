"""Clipping a gradient: every element into a range, or the whole to a largest norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import number, positive
from thalweg.transforms.arrays import constant, floating, no_zero
from thalweg.transforms.base import Array, Transform
from thalweg.transforms.norms import scaled_down, scaled_norm


@dataclass(frozen=True)
class clip_value(Transform):
    """g' = min(max(g, −limit), limit). NaN and infinity stay, so that a gradient that holds them is refused.

    Args:
        limit: the largest size of an element, in the gradient's unit, positive.

    Raises:
        HyperparameterError: the limit is not a positive finite number, or (when called) 0 in the gradient's dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_value
        >>> clip_value(1.0)(np.array([-3.0, 0.5, 2.0]))
        array([-1. ,  0.5,  1. ])

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013), section
    3.2, where this is Mikolov's form. ``torch.nn.utils.clip_grad_value_`` and ``optax.clip`` also clip infinity,
    which then looks like a gradient.
    """

    kind: ClassVar[str] = "clip_value"
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", number(self.limit, positive, name="limit", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The clipped gradient."""
        given = floating(array, self.kind)
        names = namespace(given)
        no_zero(self.limit, given, name="limit", owner=self.kind)
        clipped = names.clip(given, constant(-self.limit, given), constant(self.limit, given))
        return names.cast(names.where(names.isfinite(given), clipped, given), given)


@dataclass(frozen=True)
class clip_norm(Transform):
    """g' = g·min(1, limit/‖g‖₂), the norm over one variable, on NumPy summed in double precision.

    One NaN or infinity makes all of the result NaN: no element can be scaled by a norm that is not a number.

    Args:
        limit: the largest Euclidean norm, in the gradient's unit, positive.

    Raises:
        HyperparameterError: the limit is not a positive finite number, or (when called) 0 in the gradient's dtype.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_norm
        >>> clip_norm(1.0)(np.array([3.0, 4.0]))
        array([0.6, 0.8])

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013),
    algorithm 1. PyTorch divides by the norm plus 1e-6; we do not.
    """

    kind: ClassVar[str] = "clip_norm"
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", number(self.limit, positive, name="limit", owner=self.kind))

    def __call__(self, array: Array) -> Array:
        """The scaled gradient."""
        given = floating(array, self.kind)
        no_zero(self.limit, given, name="limit", owner=self.kind)
        scale, root = scaled_norm(given)
        return scaled_down(given, scale, root, constant(self.limit, root))
