"""What the texts of transforms need to know of an array, whichever library it belongs to."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import library_of, namespace
from thalweg.transforms.base import Array

Shape = tuple[int | None, ...]
"""The lengths of the axes; ``None`` where a PyTensor variable does not say."""


def floating(array: Any, owner: str) -> Array:
    """``array`` if a transform can work on it.

    Args:
        array: what was given.
        owner: the transform's name, for the message.

    Returns:
        The array; a NumPy number as an array without axes.

    Raises:
        HyperparameterError: it is not an array of floating point numbers, or a masked one.
    """
    dtype = getattr(array, "dtype", None)
    known = library_of(array) != "numpy" or isinstance(array, np.ndarray | np.generic)
    if isinstance(array, np.ma.MaskedArray):
        raise HyperparameterError(
            f"transform {owner!r} got a masked array, whose mask it would not see; give its data, and the mask to "
            "transforms.mask",
            got="MaskedArray",
        )
    if not known or not dtype_name(array).startswith(("float", "bfloat", "longdouble")):
        found = type(array).__name__ if dtype is None else str(dtype)
        raise HyperparameterError(
            f"transform {owner!r} got {found}; it works on arrays of floats: NumPy's, JAX's, PyTorch's, PyTensor's",
            got=found,
        )
    return np.asarray(array) if library_of(array) == "numpy" else array


def dtype_name(array: Any) -> str:
    """The name of an array's dtype, without library and byte order: ``"float32"``."""
    dtype = getattr(array, "dtype", None)
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def wide(array: Array) -> Array:
    """An array to compute sums of: 16 bits as float32, whose sums are beyond float16 from 65,505 ones on."""
    if dtype_name(array) not in ("float16", "bfloat16"):
        return array
    return array.float() if library_of(array) == "torch" else array.astype("float32")


def epsilon(array: Array) -> float:
    """The distance from 1 to the next larger number of an array's dtype."""
    name = dtype_name(array)
    return 2.0**-7 if name == "bfloat16" else float(np.finfo(name).eps)


def constant(value: float, like: Array) -> Array:
    """A number as an array without axes: of the library and dtype of ``like``, rounded to the nearest.

    So a constant lifts nothing to another dtype, and one that is beyond the dtype is infinite.
    """
    if library_of(like) != "torch":
        with quiet():
            value = np.asarray(value, like.dtype)  # type: ignore[assignment]
    return namespace(like).cast(value, like)


_ENDS = {  # What is 0, and what infinite, when rounded to the nearest of a dtype, half to even
    "float16": (2.0**-25, 65520.0),
    "bfloat16": (2.0**-134, 2.0**128 - 2.0**119),
    "float32": (2.0**-150, 2.0**128 - 2.0**103),
}


def no_zero(value: float, *arrays: Array, name: str, owner: str) -> None:
    """Refuse a number that would be 0 in the dtype of all the arrays that it is for, and so make zeros of them.

    Args:
        value: the number; 0 itself is what was asked for.
        arrays: one or more.
        name: the parameter's name, for the message.
        owner: the transform's name, for the message.

    Raises:
        HyperparameterError: it would be 0, or XLA, which computes with JAX's, would take it for 0.
    """
    found = [_vanishes(abs(value), array) for array in arrays]
    if value != 0.0 and all(found):
        raise _refused(value, 0.0, str(found[-1]), name, owner)


def no_infinity(value: float, array: Array, *, name: str, owner: str) -> None:
    """Refuse a number that would be infinite in an array's dtype.

    Args:
        value: the number.
        array: the array that it is for.
        name: the parameter's name, for the message.
        owner: the transform's name, for the message.

    Raises:
        HyperparameterError: it would be infinite.
    """
    kind = dtype_name(array)
    if abs(value) >= _ENDS.get(kind, (0.0, math.inf))[1]:
        raise _refused(value, math.copysign(math.inf, value), f"in {kind}", name, owner)


def _vanishes(size: float, array: Array) -> str:
    """Where a number is taken for 0, in words; empty if it is not."""
    kind = dtype_name(array)
    if size <= _ENDS.get(kind, (0.0, math.inf))[0]:
        return f"in {kind}"
    computed = "float64" if kind == "float64" else "float32"
    flushed = library_of(array) == "jax" and size < float(np.finfo(computed).tiny)
    return f"where XLA computes in {computed}" if flushed else ""


def _refused(value: float, becomes: float, where: str, name: str, owner: str) -> HyperparameterError:
    wider = "" if where.endswith("float64") else ", or arrays of float64"
    return HyperparameterError(
        f"{owner}: {name} = {value!r} becomes {becomes!r} {where}; use another value{wider}",
        owner=owner,
        name=name,
        value=value,
    )


def shape_of(array: Array) -> Shape:
    """The lengths of an array's axes, as far as they are known before it has values."""
    return tuple(array.type.shape if library_of(array) == "pytensor" else array.shape)


def shaped(array: Array, other: Array, owner: str, against: str) -> Array:
    """``array`` if its shape is another one's; a PyTensor variable that does not say will be checked when it does.

    Args:
        array: the array.
        other: an array of the same library, or of NumPy.
        owner: the transform's name, for the message.
        against: what ``other`` is, for the message.

    Raises:
        HyperparameterError: it has another shape.
    """
    found, shape = shape_of(array), shape_of(other)
    fits = len(found) == len(shape) and all(a == b or None in (a, b) for a, b in zip(found, shape, strict=True))
    if not fits:
        raise HyperparameterError(
            f"{owner}: the array is {found}, {against} {shape}; nothing is broadcast", got=found, expected=shape
        )
    if None not in (*found, *shape):
        return array
    pytensor: Any = import_module("pytensor.tensor")
    return pytensor.specify_shape(array, [other.shape[i] if n is None else n for i, n in enumerate(shape)])


def parameter_for(grad: Array, param: Any, owner: str) -> Array:
    """A parameter if it fits its gradient.

    Raises:
        HyperparameterError: it is no array of floats, or of another library, shape or dtype than the gradient.
    """
    given = floating(param, owner)
    here, there = ((library_of(array), dtype_name(array)) for array in (grad, given))
    if here != there:
        raise HyperparameterError(
            f"{owner}: the parameter is {' '.join(there)}, the gradient {' '.join(here)}", got=there, expected=here
        )
    return shaped(given, grad, owner, "the gradient is")


def checked_weights(array: Any, owner: str) -> np.ndarray:
    """A copy of elementwise weights, read-only.

    Raises:
        HyperparameterError: they are not booleans or finite numbers, or masked.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise HyperparameterError(f"{owner}: the weights are a masked array; give weights of 0 where it is masked")
    weights = np.array(array)
    if weights.dtype.kind not in "biuf" or not np.all(np.isfinite(weights)):
        raise HyperparameterError(f"{owner}: weights of dtype {weights.dtype}; give booleans or finite numbers")
    weights = weights.astype(weights.dtype.newbyteorder("="), copy=False)
    weights.setflags(write=False)
    return weights


def weighted(array: Array, weights: np.ndarray, owner: str) -> Array:
    """Weights times array, and exactly 0 where the weight is 0 in the array's dtype.

    Raises:
        HyperparameterError: the shapes differ.
    """
    names = namespace(array)
    given = shaped(array, weights, owner, "the weights are")
    with quiet():
        factors = names.cast(weights, given)
        product = given if weights.dtype.kind == "b" else given * factors
        return names.cast(names.where(names.absolute(factors) > 0, product, constant(0.0, given)), given)


def quiet() -> np.errstate:
    """NumPy without warnings: what overflows or is not a number shows in the result, as on the other backends."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
