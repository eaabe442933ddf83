"""What MXNet.jl does to a gradient before its rules see it. ::

g := g·scale                   scale = 1 / batch size, if the options give none
g := min(max(g, −c), c)        if c > 0
g := g + λ·w                   if λ > 0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.errors import GradientDtypeError, GradientShapeError, HyperparameterError
from thalweg.rules.ranges import finite, nonnegative, number
from thalweg.schedules import OptimizationState
from thalweg.transforms import clip_value


def normalized_gradient(opts: Any, state: OptimizationState, weight: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """The gradient rescaled, then clipped, then with weight decay: a new array. ::

        g' = min(max(g·scale, −c), c) + λ·w

    Args:
        opts: any object with ``grad_scale`` (a factor, or ``None`` for 1 / batch size), ``grad_clip`` (c, in the unit
            of the rescaled gradient; 0 for none) and ``weight_decay`` (λ, in units of gradient per unit of weight).
        state: its ``batch_size`` is how many items the gradient is a sum over.
        weight: the weights, float32 or float64.
        grad: their gradient, of the same shape and dtype; it stays as it is.

    Returns:
        An array of the gradient's shape and dtype. NaN and infinity are not clipped, so that they are noticed.

    Raises:
        HyperparameterError: an option is missing or out of its range.
        GradientShapeError: gradient and weights differ in shape.
        GradientDtypeError: they differ in dtype, or are no arrays of float32 or float64.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from thalweg.optimizers.normalizing import normalized_gradient
        >>> from thalweg.schedules import OptimizationState
        >>> opts = SimpleNamespace(grad_scale=None, grad_clip=1.0, weight_decay=0.5)
        >>> normalized_gradient(opts, OptimizationState(batch_size=4), np.array([1.0, 2.0]), np.array([2.0, -8.0]))
        array([1., 0.])

    Source: the API page of MXNet.jl's optimizers, normalized_gradient.
    """
    missing = [name for name in ("grad_scale", "grad_clip", "weight_decay") if not hasattr(opts, name)]
    if missing:
        raise HyperparameterError(
            f"the options {opts!r} have no {', '.join(missing)}; normalized_gradient needs grad_scale, grad_clip and "
            "weight_decay",
            missing=missing,
        )
    owner = "normalized_gradient"
    clip = number(opts.grad_clip, nonnegative, name="grad_clip", owner=owner)
    decay = number(opts.weight_decay, nonnegative, name="weight_decay", owner=owner)
    scale = None if opts.grad_scale is None else number(opts.grad_scale, finite, name="grad_scale", owner=owner)
    for what, array in (("weight", weight), ("gradient", grad)):
        masked = isinstance(array, np.ma.MaskedArray)  # whose mask nobody would see any more
        if (
            masked
            or not isinstance(array, np.ndarray | np.generic)
            or array.dtype.newbyteorder("=") not in ("f4", "f8")
        ):
            raise GradientDtypeError(
                f"{owner}: the {what} is a {type(array).__name__} of {getattr(array, 'dtype', 'no dtype')}; give NumPy "
                "arrays of float32 or float64"
            )
    if grad.shape != weight.shape:
        raise GradientShapeError(f"{owner}: the gradient has shape {grad.shape}, the weights {weight.shape}")
    if grad.dtype.newbyteorder("=") != weight.dtype.newbyteorder("="):
        raise GradientDtypeError(f"{owner}: the gradient has dtype {grad.dtype}, the weights {weight.dtype}")
    kind = grad.dtype.type
    with np.errstate(all="ignore"):  # what is not finite shows in the result
        result = np.asarray(grad / kind(state.batch_size) if scale is None else grad * kind(scale))
        if clip > 0:
            result = clip_value(clip)(result)
        return np.asarray(result + kind(decay) * weight if decay > 0 else result)
