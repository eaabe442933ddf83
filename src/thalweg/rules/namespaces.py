"""What the names of ``rules.arithmetic`` are called in each array library.

The library is told by the type of the arrays, and is only imported once there is an array of it, when it has
been imported anyway. Numbers and NumPy arrays are NumPy's. A text that mixes two libraries' arrays is a mistake
of its caller; the first one found decides, and that library complains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np


def namespace(*values: Any) -> Any:
    """The names for the library that ``values`` belong to.

    Args:
        values: arrays of one library, and numbers. A kind of number that computes in its own way says so by a class
            attribute ``own_names``, which goes before any library.

    Returns:
        An object with an attribute for each name of :mod:`thalweg.rules.arithmetic`.

    Example:
        >>> from thalweg.rules.namespaces import namespace
        >>> float(namespace(1.0).sqrt(4.0))
        2.0
    """
    for value in values:
        own = getattr(type(value), "own_names", None)
        if own is not None:
            return own
    for value in values:
        kind: Any = type(value)
        library = _library(kind)
        if library is not None:
            return _names(library)
    return _names("numpy")


def library_of(value: Any) -> str:
    """The library that an array belongs to: ``"numpy"``, ``"jax"``, ``"torch"`` or ``"pytensor"``.

    Args:
        value: an array, or a number (which is NumPy's).

    Returns:
        The library's name.

    Example:
        >>> from thalweg.rules.namespaces import library_of
        >>> library_of(1.0)
        'numpy'
    """
    kind: Any = type(value)
    return _library(kind) or "numpy"


@functools.cache
def _library(kind: type) -> str | None:
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in _ROOTS:
            return _ROOTS[root]
    return None


_Axis = int | tuple[int, ...] | None
"""The axes of ``total`` and ``largest``, which then stay with length one; ``None`` for all of them at once."""

_ROOTS: Mapping[str, str] = {"jax": "jax", "jaxlib": "jax", "torch": "torch", "pytensor": "pytensor"}


def _numpy() -> dict[str, Callable[..., Any]]:
    def largest(x: Any, axis: _Axis = None) -> Any:
        start: Any = {"initial": 0.0} if np.size(x) == 0 else {}
        return np.max(x, axis, keepdims=axis is not None, **start)

    def total(x: Any, axis: _Axis = None) -> Any:
        # NumPy adds in the order of the memory, and in other pieces what it has to swap: another last digit
        plain = np.asarray(x, np.asarray(x).dtype.newbyteorder("="), order="C")
        return np.sum(plain, axis, np.float64, keepdims=axis is not None)

    return {
        "sqrt": np.sqrt,
        "absolute": np.abs,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "sign": np.sign,
        "where": np.where,
        "floor": np.floor,
        "cos": np.cos,
        "equal": np.equal,
        "isfinite": np.isfinite,
        "clip": np.clip,
        "total": total,
        "largest": largest,
        "sort": lambda x: np.sort(x, axis=None),
        "cumsum": lambda x: np.cumsum(x, axis=None, dtype=np.float64),
        "arange": np.arange,
        "cast": lambda x, like: np.asarray(x, like.dtype),
    }


def _jax() -> dict[str, Callable[..., Any]]:
    import jax.numpy as jnp

    def largest(x: Any, axis: _Axis = None) -> Any:
        over: Any = {"axis": axis, "keepdims": axis is not None}
        # On CPUs XLA forgets NaN in the maximum of a large array
        nan = jnp.any(jnp.isnan(x), **over)
        return jnp.where(nan, jnp.nan, jnp.max(x, initial=0.0 if x.size == 0 else None, **over))

    return {
        "sqrt": jnp.sqrt,
        "absolute": jnp.abs,
        "maximum": jnp.maximum,
        "minimum": jnp.minimum,
        "sign": jnp.sign,
        "where": jnp.where,
        "floor": jnp.floor,
        "cos": jnp.cos,
        "equal": jnp.equal,
        "isfinite": jnp.isfinite,
        "clip": jnp.clip,
        "total": lambda x, axis=None: jnp.sum(x, axis, keepdims=axis is not None),
        "largest": largest,
        "sort": lambda x: jnp.sort(x, axis=None),
        "cumsum": lambda x: jnp.cumsum(x, axis=None),
        "arange": jnp.arange,
        "cast": lambda x, like: jnp.asarray(x, like.dtype),
    }


def _torch() -> dict[str, Callable[..., Any]]:
    import torch

    def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` for tensors, with numbers made 0-d tensors that promote nothing."""

        def call(*values: Any) -> Any:
            like = next((v for v in values if isinstance(v, torch.Tensor) and v.dtype != torch.bool), None)
            if like is None:
                like = next(v for v in values if isinstance(v, torch.Tensor))
            kind: Any = {"device": like.device, **({} if like.dtype == torch.bool else {"dtype": like.dtype})}
            truth: Any = {"device": like.device, "dtype": torch.bool}  # where's condition stays one
            return function(
                *(
                    v
                    if isinstance(v, torch.Tensor)
                    else torch.as_tensor(v, **(truth if isinstance(v, bool | np.bool_) else kind))
                    for v in values
                )
            )

        return call

    def largest(x: Any, axis: _Axis = None) -> Any:
        if x.numel() == 0:
            return torch.sum(x, axis, keepdim=axis is not None)
        return torch.max(x) if axis is None else torch.amax(x, axis, keepdim=True)

    def cast(x: Any, like: Any) -> Any:
        # An array is copied: a tensor that shares the memory of a read-only one comes with a warning
        made = torch.tensor if isinstance(x, np.ndarray) else torch.as_tensor
        return made(x, dtype=like.dtype, device=like.device)

    return {
        "sqrt": torch.sqrt,
        "absolute": torch.abs,
        "maximum": lifted(torch.maximum),
        "minimum": lifted(torch.minimum),
        "sign": lambda x: torch.where(x != x, x, torch.sign(x)),  # whose own sign of NaN is 0
        "where": lifted(torch.where),
        "floor": torch.floor,
        "cos": torch.cos,
        "equal": lifted(torch.eq),
        "isfinite": torch.isfinite,
        "clip": torch.clamp,
        "total": lambda x, axis=None: torch.sum(x, axis, keepdim=axis is not None),
        "largest": largest,
        "sort": lambda x: torch.sort(x.reshape(-1)).values,
        "cumsum": lambda x: torch.cumsum(x.reshape(-1), 0),
        "arange": torch.arange,
        "cast": cast,
    }


def _pytensor() -> dict[str, Callable[..., Any]]:
    pt: Any = import_module("pytensor.tensor")

    def largest(x: Any, axis: _Axis = None) -> Any:
        # Its own maximum fails on an empty array, or forgets NaN, as the linker has it
        nothing = pt.zeros([pt.cast(pt.eq(x.size, 0), "int64")], dtype=x.dtype)
        padded = pt.concatenate([x.ravel(), nothing]) if axis is None else x
        for along in () if axis is None else axis if isinstance(axis, tuple) else (axis,):
            shape = [1 if i == along % x.ndim else padded.shape[i] for i in range(x.ndim)]
            padded = pt.concatenate([padded, pt.zeros(shape, dtype=x.dtype)], axis=along)
        over: Any = {"axis": axis, "keepdims": axis is not None}
        nan = pt.any(pt.isnan(padded), **over)
        return pt.switch(nan, np.asarray(np.nan, x.dtype), pt.max(padded, **over))

    return {
        "sqrt": pt.sqrt,
        "absolute": pt.abs,
        "maximum": pt.maximum,
        "minimum": pt.minimum,
        "sign": pt.sign,
        "where": pt.switch,
        "floor": pt.floor,
        "cos": pt.cos,
        "equal": pt.eq,
        # Not x − x = 0, which PyTensor simplifies to true
        "isfinite": lambda x: ~(pt.isnan(x) | pt.isinf(x)),
        "clip": pt.clip,
        "total": lambda x, axis=None: pt.sum(x, axis=axis, keepdims=axis is not None),
        "largest": largest,
        "sort": lambda x: pt.sort(x.ravel()),
        "cumsum": lambda x: pt.cumsum(x.ravel()),
        "arange": pt.arange,
        "cast": lambda x, like: pt.cast(x, like.dtype),
    }


_MAKERS: Mapping[str, Callable[[], dict[str, Callable[..., Any]]]] = {
    "numpy": _numpy,
    "jax": _jax,
    "torch": _torch,
    "pytensor": _pytensor,
}


@functools.cache
def _names(library: str) -> SimpleNamespace:
    return SimpleNamespace(**_MAKERS[library]())
