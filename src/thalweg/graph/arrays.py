"""The little that the graph needs to know about arrays, for NumPy, JAX, torch and whatever looks like them.

Neither JAX nor torch is imported: their arrays bring the methods that are used here.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache
from typing import Any

import numpy as np

NUMBERS = (int, float, complex)


def as_data(value: Any) -> Any:
    """Return value as a Variable keeps it: Python and NumPy scalars become arrays, all else stays as it is."""
    if isinstance(value, (*NUMBERS, np.generic)):
        return np.asarray(value)
    return value


def shape_of(data: Any) -> tuple[int, ...] | None:
    """Return the shape, or None for data that has none."""
    shape = getattr(data, "shape", None)
    return None if shape is None else tuple(shape)


@lru_cache(maxsize=256)
def differentiable(dtype: Any) -> bool:
    """Tell whether values of this dtype can have a gradient: real or complex floating point numbers."""
    kind = getattr(dtype, "kind", None)
    if kind in ("f", "c"):
        return True
    if hasattr(dtype, "is_floating_point"):
        return bool(dtype.is_floating_point or dtype.is_complex)
    # bfloat16 and its kin are NumPy extension types of kind "V"
    return "float" in str(dtype) or "complex" in str(dtype)


@lru_cache(maxsize=256)
def is_complex(dtype: Any) -> bool:
    """Tell whether a dtype is complex."""
    return getattr(dtype, "kind", None) == "c" or "complex" in str(dtype)


def is_single(data: Any) -> bool:
    """Tell whether data is an array with exactly one element."""
    shape = shape_of(data)
    return shape is not None and math.prod(shape) == 1


def like(template: Any, values: Any) -> Any:
    """Return values (array-like) as a new array of the template's kind, dtype and device."""
    if isinstance(template, np.ndarray):
        return np.array(values, dtype=template.dtype)
    if hasattr(template, "new_tensor"):
        return template.new_tensor(np.asarray(values))
    space = template.__array_namespace__()
    return space.asarray(values, dtype=template.dtype)


def to_numpy(data: Any) -> np.ndarray[Any, Any]:
    """Return data as a NumPy array (a torch tensor without its autograd history)."""
    if hasattr(data, "detach") and hasattr(data, "cpu"):
        data = data.detach().cpu()
    return np.asarray(data)


def own(data: Any) -> Any:
    """Return a copy of data that shares no memory with it."""
    if isinstance(data, np.ndarray):
        return data.copy()
    if hasattr(data, "detach") and hasattr(data, "clone"):
        return data.detach().clone()
    return copy.deepcopy(data)


def add(first: Any, second: Any) -> Any:
    """Return first + second as a new array (NumPy turns a sum of 0-d arrays into a scalar; this does not)."""
    total = first + second
    return np.asarray(total) if isinstance(total, np.generic) else total


def describe(data: Any) -> str:
    """Say in a few words what data is: its shape and dtype, or its type."""
    shape, dtype = shape_of(data), getattr(data, "dtype", None)
    if shape is None or dtype is None:
        return f"a {type(data).__name__}"
    return f"shape {shape}, {dtype}"


def rounding(data: Any) -> float:
    """Return the unit of rounding of data's dtype (0 for exact ones)."""
    dtype = to_numpy(data).dtype
    return float(np.finfo(dtype).eps) if dtype.kind in "fc" else 0.0


def inner(first: Any, second: Any) -> float:
    """Return the real inner product Re Σ conj(first) second, summed in at least double precision."""
    a, b = (to_numpy(v) for v in (first, second))
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    return float(np.vdot(a.astype(wide, copy=False), b.astype(wide, copy=False)).real)


def random_like(template: Any, rng: np.random.Generator) -> Any:
    """Return standard normal values in an array of the template's kind, shape and dtype."""
    shape = shape_of(template) or ()
    values = rng.standard_normal(shape)
    if is_complex(template.dtype):
        values = values + 1j * rng.standard_normal(shape)
    return like(template, values)
