"""Adaptive gradient clipping: a unit's gradient may be so large relative to the unit's own norm, and no larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import namespace
from thalweg.rules.ranges import number, positive
from thalweg.transforms.arrays import Shape, constant, floating, no_infinity, no_zero, parameter_for, quiet, shape_of
from thalweg.transforms.base import Array, ParameterTransform
from thalweg.transforms.norms import Axis, scaled_down, scaled_norm


@dataclass(frozen=True)
class clip_adaptive(ParameterTransform):
    """g'ᵤ = gᵤ·min(1, limit·max(‖θᵤ‖₂, ε)/‖gᵤ‖₂) for each unit u of a layer.

    A unit is what belongs to one output. With arrays laid out as JAX and Keras do (inputs first, outputs last)
    the norms go over the whole of a number or vector, over the first axis of two or three, and over all but the last
    of four or five. PyTorch puts outputs first; ``axis`` then says where the inputs are. The length of an axis
    that a PyTensor variable does not tell is not one.

    One NaN or infinity in a unit, of gradient or parameter, makes all of the unit's result NaN.

    Args:
        limit: the largest ‖gᵤ‖₂/‖θᵤ‖₂, positive; the paper's λ, 0.01 there for large batches.
        epsilon: the least norm of a parameter, in its unit, positive, so that a unit that starts at zero can move.
        axis: the axes over which a unit's norm goes, one number or several; ``None`` for the ones above.

    Raises:
        HyperparameterError: a number is not positive and finite, ``axis`` is not made of distinct whole numbers,
            or (when called) gradient and parameter do not fit each other, there are no such axes, or a number is 0
            or infinite in the dtype (for 16 bits in float32).

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import clip_adaptive
        >>> clip_adaptive(0.1)(np.array([[3.0, 0.1], [4.0, 0.0]]), np.array([[3.0, 3.0], [4.0, 4.0]]))
        array([[0.3, 0.1],
               [0.4, 0. ]])

    Source: Brock, De, Smith and Simonyan, High-Performance Large-Scale Image Recognition Without Normalization
    (2021), equation 3; units as ``optax.adaptive_grad_clip`` has them, which divides by at least 1e-6.
    """

    kind: ClassVar[str] = "clip_adaptive"
    limit: float
    epsilon: float = 1e-3
    axis: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("limit", "epsilon"):
            object.__setattr__(self, name, number(getattr(self, name), positive, name=name, owner=self.kind))
        if self.axis is not None:
            object.__setattr__(self, "axis", _checked_axis(self.axis))

    def __call__(self, grad: Array, param: Array) -> Array:
        """The scaled gradient."""
        given = floating(grad, self.kind)
        param = parameter_for(given, param, self.kind)
        axis = self._axis(shape_of(given))
        names = namespace(given)
        with quiet():
            size, root = scaled_norm(param, axis)
            for name, value in (("limit", self.limit), ("epsilon", self.epsilon)):
                no_zero(value, size, name=name, owner=self.kind)
            no_infinity(self.epsilon, size, name="epsilon", owner=self.kind)
            allowed = constant(self.limit, root) * names.maximum(size * root, constant(self.epsilon, root))
            return scaled_down(given, *scaled_norm(given, axis), allowed)

    def _axis(self, shape: Shape) -> Axis:
        """The axes over which the norms go."""
        if self.axis is None:
            if len([length for length in shape if length != 1]) <= 1:
                return None
            if len(shape) in _INPUTS:
                return _INPUTS[len(shape)]
        else:
            axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
            ahead = tuple(axis % len(shape) if -len(shape) <= axis < len(shape) else -1 for axis in axes)
            if -1 not in ahead and len(set(ahead)) == len(ahead):
                return ahead
        raise HyperparameterError(
            f"clip_adaptive: axis is {self.axis!r} for arrays of {len(shape)} axes; name the axes over which the norm "
            "of a unit goes",
            axis=self.axis,
            shape=shape,
        )


_INPUTS = {2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}
"""By the number of axes: those of a layer's inputs. Three are those of attention with several heads."""


def _checked_axis(axis: Any) -> int | tuple[int, ...]:
    """``axis`` as whole numbers."""
    several = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    whole = all(isinstance(part, int) and not isinstance(part, bool) for part in several)
    if not whole or not several or len(set(several)) != len(several):
        raise HyperparameterError(f"clip_adaptive: axis is {axis!r}; give a whole number, or distinct ones", axis=axis)
    return several if isinstance(axis, list | tuple) else several[0]
