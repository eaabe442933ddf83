"""What the names of ``rules.arithmetic`` are called in each array library.

The library is told by the type of the arrays, and is only imported once there is an array of it, when it has
been imported anyway. Numbers and NumPy arrays are NumPy's. A text that mixes two libraries' arrays is a mistake
of its caller; the first one found decides, and that library complains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np


def namespace(*values: Any) -> Any:
    """The names for the library that ``values`` belong to.

    Args:
        values: arrays of one library, and numbers.

    Returns:
        An object with an attribute for each name of :mod:`thalweg.rules.arithmetic`.

    Example:
        >>> from thalweg.rules.namespaces import namespace
        >>> float(namespace(1.0).sqrt(4.0))
        2.0
    """
    for value in values:
        library = _library(type(value))
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
    return _library(type(value)) or "numpy"


@functools.cache
def _library(kind: type) -> str | None:
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in _ROOTS:
            return _ROOTS[root]
    return None


_ROOTS: Mapping[str, str] = {"jax": "jax", "jaxlib": "jax", "torch": "torch", "pytensor": "pytensor"}


def _numpy() -> dict[str, Callable[..., Any]]:
    return {
        "sqrt": np.sqrt,
        "absolute": np.abs,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "sign": np.sign,
        "where": np.where,
        "floor": np.floor,
        "cos": np.cos,
        "isfinite": np.isfinite,
        "total": lambda x: np.sum(x, dtype=np.float64),
        "largest": lambda x: np.max(x, initial=0.0) if np.size(x) == 0 else np.max(x),
        "sort": lambda x: np.sort(x, axis=None),
        "cumsum": lambda x: np.cumsum(x, axis=None),
        "cast": lambda x, like: np.asarray(x, like.dtype),
    }


def _jax() -> dict[str, Callable[..., Any]]:
    import jax.numpy as jnp

    return {
        "sqrt": jnp.sqrt,
        "absolute": jnp.abs,
        "maximum": jnp.maximum,
        "minimum": jnp.minimum,
        "sign": jnp.sign,
        "where": jnp.where,
        "floor": jnp.floor,
        "cos": jnp.cos,
        "isfinite": jnp.isfinite,
        "total": jnp.sum,
        "largest": lambda x: jnp.max(x, initial=0.0) if x.size == 0 else jnp.max(x),
        "sort": lambda x: jnp.sort(x, axis=None),
        "cumsum": lambda x: jnp.cumsum(x, axis=None),
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
            kind = {"device": like.device, **({} if like.dtype == torch.bool else {"dtype": like.dtype})}
            return function(*(v if isinstance(v, torch.Tensor) else torch.as_tensor(v, **kind) for v in values))

        return call

    return {
        "sqrt": torch.sqrt,
        "absolute": torch.abs,
        "maximum": lifted(torch.maximum),
        "minimum": lifted(torch.minimum),
        "sign": torch.sign,
        "where": lifted(torch.where),
        "floor": torch.floor,
        "cos": torch.cos,
        "isfinite": torch.isfinite,
        "total": torch.sum,
        "largest": lambda x: x.new_zeros(()) if x.numel() == 0 else torch.max(x),
        "sort": lambda x: torch.sort(x.reshape(-1)).values,
        "cumsum": lambda x: torch.cumsum(x.reshape(-1), 0),
        "cast": lambda x, like: torch.as_tensor(x, dtype=like.dtype, device=like.device),
    }


def _pytensor() -> dict[str, Callable[..., Any]]:
    import pytensor.tensor as pt

    return {
        "sqrt": pt.sqrt,
        "absolute": pt.abs,
        "maximum": pt.maximum,
        "minimum": pt.minimum,
        "sign": pt.sign,
        "where": pt.switch,
        "floor": pt.floor,
        "cos": pt.cos,
        "isfinite": lambda x: pt.eq(x - x, 0),
        "total": pt.sum,
        "largest": pt.max,
        "sort": lambda x: pt.sort(x.ravel()),
        "cumsum": lambda x: pt.cumsum(x.ravel()),
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
