"""The gradient that an adjoint run starts from."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.errors import SeedError
from thalweg.graph.arrays import NUMBERS, describe, differentiable, is_complex, is_single, like, own, shape_of
from thalweg.graph.variable import Variable


def seed_for(variable: Variable, grad: Any) -> Any:
    """Return the seed as an array like the variable's data, never the caller's own array.

    Args:
        variable: the root of the run.
        grad: None (1 for a single-element real output), a number (single-element outputs only; 0.0 is a seed
            like any other), or an array of the data's shape.

    Raises:
        SeedError: the seed does not fit, or there is none and the output has several elements.
    """
    data = variable._data
    if grad is None:
        dtype = getattr(data, "dtype", None)
        if not is_single(data) or not differentiable(dtype) or is_complex(dtype):
            raise SeedError(
                f"adjoint() without a seed needs a real floating point output with one element, and {variable!r} is "
                f"not one; give the gradient to start from: adjoint(np.ones(...)) for the sum of the elements"
            )
        return like(data, np.ones(shape_of(data) or ()))
    if isinstance(grad, Variable):
        raise SeedError("the seed is a Variable; give an array, for instance its data")
    if isinstance(grad, (*NUMBERS, np.generic)):
        if not is_single(data):
            raise SeedError(
                f"the seed is the number {grad}, but {variable!r} has not just one element; nothing is broadcast: "
                "give an array of the output's shape"
            )
        grad = np.full(shape_of(data) or (), grad)
    elif isinstance(grad, list | tuple):
        grad = np.asarray(grad)
    shape, dtype = shape_of(data), getattr(data, "dtype", None)
    if shape is None or dtype is None:
        return grad
    if shape_of(grad) != shape:
        raise SeedError(f"the seed has {describe(grad)}, but the output is {describe(data)}; the shapes must be equal")
    if grad.dtype == dtype:
        return own(grad)  # an adjoint may be so careless as to write into it
    if isinstance(grad, np.ndarray) and grad.dtype.kind not in "buifc":
        raise SeedError(f"the seed has dtype {grad.dtype}; it must be numbers, for an output that is {describe(data)}")
    if is_complex(grad.dtype) and not is_complex(dtype):
        raise SeedError(
            f"the seed is complex ({grad.dtype}), but the output is {describe(data)}; take its real part explicitly"
        )
    if isinstance(data, np.ndarray) and isinstance(grad, np.ndarray):
        return grad.astype(dtype)
    if hasattr(grad, "to") and hasattr(data, "to"):
        return grad.to(dtype)
    if isinstance(grad, np.ndarray):
        return like(data, grad)
    raise SeedError(f"the seed is {describe(grad)} ({type(grad).__name__}), the output {describe(data)}")
